"""The rules against an independent model, whatever order things happen in."""

from typing import Any

import msgspec
import pytest

from credits.drivers import Driver, RulesDriver
from credits.machine_keys import KeyedMachine
from credits.machine_runs import is_long, run_machine
from credits_service.ledger.batch import Command
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import (
    AmendHold,
    Charge,
    Operation,
    PlaceHold,
    ReleaseHold,
    SettleDue,
    TopUp,
)


class RulesMachine(KeyedMachine):
    """The pure rules; the invariants are checked after every step."""

    @staticmethod
    def make_driver() -> Driver:
        return RulesDriver()


@pytest.mark.timeout(0 if is_long() else 180)
def test_the_rules_and_the_model_agree() -> None:
    run_machine(RulesMachine)


def test_what_a_partial_capture_asked_for_is_not_charged_again_when_the_hold_expires() -> None:
    """Also where it took more than the hold reserved, or more than there was."""
    driver = RulesDriver()
    driver.run([Command(TopUp("ann", 100), "admin", "req", IdempotencyKey("admin", "t"))])
    (placed,) = driver.run(
        [Command(PlaceHold("ann", 10, ttl_micros=1_000), "tester", "req", IdempotencyKey("x", "h"))]
    )
    hold_id = msgspec.json.decode(placed.body)["hold_id"]
    driver.run(
        [
            Command(AmendHold(hold_id, progress_nanos=15), "tester", "req"),
            Command(Charge("ann", 15, hold_id=hold_id, final=False), "tester", "req"),
        ]
    )

    driver.clock.micros += 2_000
    driver.run([Command(SettleDue("ann"), "sweeper", "req")])

    account = driver.states["ann"].account
    assert (account.balance_nanos, account.held_nanos, account.shortfall_nanos) == (85, 0, 0)
    assert driver.violations() == []


@pytest.mark.parametrize("way", ["capture", "release", "expiry of the hold"])
def test_what_a_hold_returns_to_an_expired_lot_expires_at_once(way: str) -> None:
    driver = RulesDriver()
    at = driver.clock()

    def do(operation: Operation) -> dict[str, Any]:
        (result,) = driver.run([Command(operation, "tester", "req")])
        body: dict[str, Any] = msgspec.json.decode(result.body)
        return body

    do(TopUp("ann", 100, priority=1, expires_at_micros=at + 1_000))
    do(TopUp("ann", 7, priority=2))
    hold_id = do(PlaceHold("ann", 60, ttl_micros=2_000))["hold_id"]
    driver.clock.micros += 1_000 if way != "expiry of the hold" else 2_000
    operations: dict[str, Operation] = {
        "capture": Charge("ann", 10, hold_id=hold_id),
        "release": ReleaseHold(hold_id),
        "expiry of the hold": SettleDue("ann"),
    }
    do(operations[way])

    account = driver.states["ann"].account
    assert (account.balance_nanos, account.held_nanos) == (7, 0)
    assert driver.violations() == []
