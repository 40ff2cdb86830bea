"""Frozen and closed accounts: no new promises, but old ones are settled."""

import msgspec
import pytest

from credits.drivers import RulesDriver
from credits_service.ledger.batch import Command, Result
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import (
    AmendHold,
    ChangeAccount,
    Charge,
    Operation,
    PlaceHold,
    ReleaseHold,
    TopUp,
)
from credits_service.ledger.state import AccountStatus

HOUR = 3_600_000_000


def _run(driver: RulesDriver, operation: Operation, key: str | None = None) -> Result:
    mark = None if key is None else IdempotencyKey("tester", key)
    (result,) = driver.run([Command(operation, "tester", "req", mark)])
    return result


@pytest.fixture
def driver() -> RulesDriver:
    driver = RulesDriver()
    assert _run(driver, TopUp("ann", 100)).status == 201
    return driver


def _set_status(driver: RulesDriver, status: AccountStatus, *, forfeit: bool = False) -> int:
    return _run(driver, ChangeAccount("ann", status, forfeit=forfeit)).status


def test_a_frozen_account_makes_no_new_promises(driver: RulesDriver) -> None:
    hold_id = msgspec.json.decode(_run(driver, PlaceHold("ann", 40, HOUR)).body)["hold_id"]
    assert _set_status(driver, "frozen") == 200
    for operation in (
        Charge("ann", 1),
        PlaceHold("ann", 1, HOUR),
        AmendHold(hold_id, amount_nanos=41),
    ):
        result = _run(driver, operation, "k")
        assert result.status == 403
        assert msgspec.json.decode(result.body)["code"] == "account_frozen"
    assert _set_status(driver, "open") == 200
    assert _run(driver, Charge("ann", 1), "k").status == 200
    assert driver.violations() == []


def test_old_promises_of_a_frozen_account_are_settled(driver: RulesDriver) -> None:
    captured, released, expiring = (
        msgspec.json.decode(_run(driver, PlaceHold("ann", 10, HOUR)).body)["hold_id"]
        for _ in range(3)
    )
    assert _set_status(driver, "frozen") == 200
    assert _run(driver, AmendHold(expiring, progress_nanos=4)).status == 200
    assert _run(driver, Charge("ann", 7, hold_id=captured)).status == 200
    assert _run(driver, ReleaseHold(released)).status == 200
    driver.clock.micros += HOUR
    assert _run(driver, Charge("ann", 5, hold_id=expiring)).status == 200
    assert driver.states["ann"].account.balance_nanos == 100 - 7 - 5
    assert driver.states["ann"].account.held_nanos == 0
    assert driver.violations() == []


def test_a_late_capture_on_a_closed_account_is_a_shortfall(driver: RulesDriver) -> None:
    hold_id = msgspec.json.decode(_run(driver, PlaceHold("ann", 10, HOUR)).body)["hold_id"]
    assert _set_status(driver, "closed", forfeit=True) == 409
    driver.clock.micros += HOUR
    assert _set_status(driver, "closed", forfeit=True) == 200

    charged = _run(driver, Charge("ann", 5, hold_id=hold_id))

    assert msgspec.json.decode(charged.body)["shortfall"] == "0.000000005"
    assert driver.states["ann"].account.balance_nanos == 0
    assert driver.violations() == []


def test_a_frozen_account_takes_top_ups_and_a_closed_one_nothing(driver: RulesDriver) -> None:
    assert _set_status(driver, "frozen") == 200
    assert _run(driver, TopUp("ann", 1)).status == 201
    assert _set_status(driver, "closed") == 409
    assert _set_status(driver, "closed", forfeit=True) == 200
    for operation in (TopUp("ann", 1), Charge("ann", 1), PlaceHold("ann", 1, HOUR)):
        result = _run(driver, operation)
        assert result.status == 409
        assert msgspec.json.decode(result.body)["code"] == "account_closed"
    assert _set_status(driver, "open") == 409
    assert driver.violations() == []


def test_a_clock_that_was_set_back_puts_no_history_out_of_order(driver: RulesDriver) -> None:
    driver.clock.micros -= HOUR
    assert _run(driver, Charge("ann", 1)).status == 200
    assert driver.violations() == []
