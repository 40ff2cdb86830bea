"""The rules against an independent model, whatever order things happen in."""

import msgspec
from hypothesis import HealthCheck, settings

from credits.drivers import RulesDriver
from credits.machine import LedgerMachine
from credits_service.ledger.batch import Command
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import AmendHold, Charge, PlaceHold, SettleDue, TopUp


class RulesMachine(LedgerMachine):
    """The pure rules; the invariants are checked after every step."""

    make_driver = RulesDriver


RulesMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestRules = RulesMachine.TestCase


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
