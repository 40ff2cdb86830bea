"""What the journal says of each transaction: its place in the chain, its key, its reference."""

import msgspec

from credits.drivers import RulesDriver
from credits_service.ledger.batch import Command, Result
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.journal import chain_hash
from credits_service.ledger.operations import (
    AmendHold,
    ChangeAccount,
    Charge,
    Operation,
    PlaceHold,
    TopUp,
)

HOUR = 3_600_000_000


def _run(driver: RulesDriver, *operations: Operation, key: str | None = None) -> list[Result]:
    mark = None if key is None else IdempotencyKey("tester", key)
    return driver.run([Command(operation, "tester", "req", mark) for operation in operations])


def test_a_hash_tells_of_all_that_went_before() -> None:
    driver = RulesDriver()
    _run(driver, TopUp("ann", 100), Charge("ann", 1), Charge("ann", 1))
    first, second, third = driver.transactions
    entries = [driver.entries[transaction.id] for transaction in driver.transactions]
    assert chain_hash(bytes(32), first, entries[0]) == first.hash
    assert chain_hash(first.hash, second, entries[1]) == second.hash
    assert chain_hash(second.hash, third, entries[2]) == third.hash
    assert chain_hash(first.hash, third, entries[2]) != third.hash
    assert driver.states["ann"].account.head_hash == third.hash


def test_a_hash_tells_of_all_that_a_transaction_says() -> None:
    driver = RulesDriver()
    _run(driver, TopUp("ann", 100), Charge("ann", 1, usage="{}", price="{}", metadata="{}"))
    transaction = driver.transactions[1]
    entries = driver.entries[transaction.id]
    for name in transaction.__struct_fields__:
        if name == "hash":
            continue
        value = getattr(transaction, name)
        other = value + 1 if isinstance(value, int) else ("x",) if name == "lots" else "other"
        changed = msgspec.structs.replace(transaction, **{name: other})
        changed_hash = chain_hash(driver.transactions[0].hash, changed, entries)
        assert changed_hash != transaction.hash, name
    less = chain_hash(driver.transactions[0].hash, transaction, entries[:1])
    assert less != transaction.hash


def test_a_key_stands_for_one_transaction() -> None:
    """What falls due on the way, and what closing takes, was not what the key asked for."""
    driver = RulesDriver()
    _run(driver, TopUp("ann", 10, expires_at_micros=driver.clock() + HOUR), TopUp("ann", 90))
    (placed,) = _run(driver, PlaceHold("ann", 20, HOUR))
    hold_id = msgspec.json.decode(placed.body)["hold_id"]
    _run(driver, AmendHold(hold_id, progress_nanos=5))
    driver.clock.micros += HOUR
    _run(driver, Charge("ann", 1), key="bill")
    _run(driver, ChangeAccount("ann", "closed", forfeit=True), key="close")
    assert [(t.kind, t.idempotency_key) for t in driver.transactions[2:]] == [
        ("charge", None),
        ("lot_expiry", None),
        ("charge", "bill"),
        ("forfeiture", None),
        ("account_change", "close"),
    ]
    assert driver.violations() == []


def test_a_reference_is_booked_once_also_within_a_batch() -> None:
    driver = RulesDriver()
    payment = TopUp("ann", 10, reference="payment-1")
    other = TopUp("bob", 10, reference="payment-1")
    assert [result.status for result in _run(driver, payment, payment, other)] == [201, 409, 409]
    assert [result.status for result in _run(driver, payment)] == [409]
    assert "bob" not in driver.states


def test_due_holds_are_settled_in_the_order_in_which_they_expired() -> None:
    """The first to expire gets the free credit that its use needs beyond what it reserves."""
    driver = RulesDriver()
    _run(driver, TopUp("ann", 35))
    second, first, third = (
        msgspec.json.decode(_run(driver, PlaceHold("ann", 10, ttl))[0].body)["hold_id"]
        for ttl in (2 * HOUR, HOUR, 3 * HOUR)
    )
    _run(driver, *(AmendHold(hold_id, progress_nanos=15) for hold_id in (second, first, third)))
    driver.clock.micros += 3 * HOUR
    _run(driver, ChangeAccount("ann"))
    charges = [t for t in driver.transactions if t.kind == "charge"]
    assert [(t.hold_id, -t.amount_nanos, t.shortfall_nanos) for t in charges] == [
        (first, 15, 0),
        (second, 10, 5),
        (third, 10, 5),
    ]
    assert driver.violations() == []


def test_of_equal_lots_the_oldest_is_used_first() -> None:
    driver = RulesDriver()
    for _ in range(2):
        _run(driver, TopUp("ann", 10))
        driver.clock.micros += HOUR
    _run(driver, Charge("ann", 4))
    assert [lot.remaining_nanos for lot in driver.states["ann"].lots.values()] == [6, 10]


def test_a_lot_must_expire_in_the_future() -> None:
    driver = RulesDriver()
    now = driver.clock()
    _run(driver, TopUp("ann", 10))
    for user_id in ("ann", "bob"):
        top_ups = (TopUp(user_id, 10, expires_at_micros=at) for at in (now - 1, now, now + 1))
        assert [result.status for result in _run(driver, *top_ups)] == [422, 422, 201]
    assert driver.violations() == []


def test_a_key_is_known_to_the_rest_of_its_batch() -> None:
    driver = RulesDriver()
    _run(driver, TopUp("ann", 10))
    charge = Command(Charge("ann", 4), "tester", "req", IdempotencyKey("tester", "k"))
    other = msgspec.structs.replace(charge, operation=Charge("ann", 5))
    first, again, wrong = driver.run([charge, charge, other])
    assert (first.status, wrong.status) == (200, 422)
    assert again == first._replace(replayed=True)
    assert driver.states["ann"].account.balance_nanos == 6
