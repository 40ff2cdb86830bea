"""Frozen and closed accounts: no new promises, but old ones are settled."""

from typing import Literal

import msgspec
import pytest

from credits.drivers import RulesDriver
from credits_service.ledger.batch import Command, Result
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import (
    AmendHold,
    Charge,
    Operation,
    PlaceHold,
    ReleaseHold,
    TopUp,
)

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


@pytest.mark.parametrize(("status", "refusal"), [("frozen", 403), ("closed", 409)])
def test_no_new_promises(
    driver: RulesDriver, status: Literal["frozen", "closed"], refusal: int
) -> None:
    hold_id = msgspec.json.decode(_run(driver, PlaceHold("ann", 40, HOUR)).body)["hold_id"]
    driver.states["ann"].account.status = status
    for operation in (
        Charge("ann", 1),
        PlaceHold("ann", 1, HOUR),
        AmendHold(hold_id, amount_nanos=41),
    ):
        result = _run(driver, operation, "k")
        assert result.status == refusal
        assert msgspec.json.decode(result.body)["code"] == f"account_{status}"
    driver.states["ann"].account.status = "open"
    assert _run(driver, Charge("ann", 1), "k").status == 200
    assert driver.violations() == []


@pytest.mark.parametrize("status", ["frozen", "closed"])
def test_old_promises_are_settled(driver: RulesDriver, status: Literal["frozen", "closed"]) -> None:
    captured, released, expiring = (
        msgspec.json.decode(_run(driver, PlaceHold("ann", 10, HOUR)).body)["hold_id"]
        for _ in range(3)
    )
    driver.states["ann"].account.status = status
    assert _run(driver, AmendHold(expiring, progress_nanos=4)).status == 200
    assert _run(driver, Charge("ann", 7, hold_id=captured)).status == 200
    assert _run(driver, ReleaseHold(released)).status == 200
    driver.clock.micros += HOUR
    assert _run(driver, Charge("ann", 5, hold_id=expiring)).status == 200
    assert driver.states["ann"].account.balance_nanos == 100 - 7 - 5
    assert driver.states["ann"].account.held_nanos == 0
    assert driver.violations() == []


def test_a_frozen_account_takes_top_ups_and_a_closed_one_none(driver: RulesDriver) -> None:
    driver.states["ann"].account.status = "frozen"
    assert _run(driver, TopUp("ann", 1)).status == 201
    driver.states["ann"].account.status = "closed"
    assert _run(driver, TopUp("ann", 1)).status == 409


def test_a_clock_that_was_set_back_puts_no_history_out_of_order(driver: RulesDriver) -> None:
    driver.clock.micros -= HOUR
    assert _run(driver, Charge("ann", 1)).status == 200
    assert driver.violations() == []
