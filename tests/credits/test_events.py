"""When there is something to tell: a balance that becomes low, a hold that nobody settled."""

import msgspec

from credits.drivers import LOW_BALANCE_NANOS, RulesDriver
from credits_service.ledger.batch import Command
from credits_service.ledger.operations import (
    ChangeAccount,
    Charge,
    Operation,
    PlaceHold,
    ReleaseHold,
    SettleDue,
    TopUp,
)

HOUR = 3_600_000_000


def _told(driver: RulesDriver, *operations: Operation) -> list[str]:
    """Run the operations, each by itself, and return the kinds of events that they make."""
    before = len(driver.told)
    for operation in operations:
        (result,) = driver.run([Command(operation, "tester", "req")])
        assert result.status < 300, result.body
    return [event.kind for event in driver.told[before:]]


def test_a_balance_is_low_once_it_falls_below_its_threshold() -> None:
    driver = RulesDriver()
    assert _told(driver, TopUp("ann", LOW_BALANCE_NANOS + 1)) == []
    # To the threshold, and no further.
    assert _told(driver, Charge("ann", 1)) == []
    assert _told(driver, Charge("ann", 1)) == ["balance.low"]
    assert _told(driver, Charge("ann", 1), TopUp("ann", 1)) == []
    # Up to the threshold, from which it falls again.
    assert _told(driver, TopUp("ann", 1), Charge("ann", 1)) == ["balance.low"]
    payload = msgspec.json.decode(driver.told[-1].payload)
    assert payload == {
        "user_id": "ann",
        "balance": "0.000000029",
        "available": "0.000000029",
        "threshold": "0.00000003",
        "transaction_id": driver.transactions[-1].id,
        "seq": len(driver.transactions),
    }


def test_an_account_has_a_threshold_of_its_own() -> None:
    driver = RulesDriver()
    own = ChangeAccount("ann", settings={"low_balance_nanos": 5})
    assert _told(driver, TopUp("ann", 40), own, Charge("ann", 35)) == []
    assert _told(driver, Charge("ann", 1)) == ["balance.low"]
    # A threshold that is raised above the balance takes nothing away.
    assert _told(driver, ChangeAccount("ann", settings={"low_balance_nanos": 100})) == []


def test_a_hold_that_is_not_settled_in_time_is_told_of_once() -> None:
    driver = RulesDriver()
    _told(driver, TopUp("ann", 100), PlaceHold("ann", 10, HOUR), PlaceHold("ann", 10, HOUR))
    released, expiring = driver.states["ann"].holds
    assert _told(driver, ReleaseHold(released)) == []
    driver.clock.micros += HOUR
    assert _told(driver, SettleDue("ann"), SettleDue("ann")) == ["hold.expired"]
    assert _told(driver, Charge("ann", 1, hold_id=expiring)) == []
    payload = msgspec.json.decode(driver.told[-1].payload)
    assert (payload["hold_id"], payload["charged_at_expiry"]) == (expiring, "0")
