"""What an operator of money reads off the metrics of the ledger."""

import time
from collections.abc import Iterator

import pytest

from credits.client import ADMIN_KEY, CreditsClient, Json, app_of
from credits.drivers import Clock
from support.live_server import live_server

SECOND = 1_000_000


@pytest.fixture
def swept(clock: Clock, ledger_url: str) -> Iterator[CreditsClient]:
    """A client of a service that sweeps often and tells the time by `clock`, on each engine."""
    app = app_of(ledger_url, clock, sweep_interval_seconds=0.02)
    with live_server(app) as base_url, CreditsClient(base_url) as client:
        yield client


def _money(service: CreditsClient) -> Json:
    money: Json = service.call("GET", "/metrics").json()["money"]
    return money


def _once(service: CreditsClient, **wanted: float) -> Json:
    """Return the figures once they are what they should be after a sweep."""
    for _ in range(1_000):
        money = _money(service)
        if wanted.items() <= money.items():
            return money
    raise AssertionError(f"{money}, not {wanted}")


def test_open_holds_are_counted_until_they_end(swept: CreditsClient, clock: Clock) -> None:
    clock.micros = time.time_ns() // 1_000 - 100 * SECOND
    swept.top_up("ann", "10")
    swept.top_up("bob", "10")
    hold_id = swept.held("ann", "1")["hold_id"]
    swept.held("bob", "1")

    money = _once(swept, holds_open=2)
    assert money["oldest_hold_age_seconds"] >= 100
    swept.bill("ann", "1", hold_id=hold_id)
    _once(swept, holds_open=1)
    assert _money(swept)["holds_expired"] == 0


def test_a_hold_that_nobody_settles_is_counted_as_expired_once(
    swept: CreditsClient, clock: Clock
) -> None:
    swept.top_up("ann", "10")
    swept.held("ann", "1", ttl_s=60)
    swept.held("ann", "1", ttl_s=600)

    clock.micros += 61 * SECOND

    _once(swept, holds_expired=1, holds_open=1)
    swept.bill("ann", "1")
    assert _money(swept)["holds_expired"] == 1


def test_what_can_not_be_paid_is_counted_with_its_amount(service: CreditsClient) -> None:
    service.top_up("ann", "5")
    hold_id = service.held("ann", "4")["hold_id"]

    service.bill("ann", "7", key="once", hold_id=hold_id)
    service.bill("ann", "7", key="once", hold_id=hold_id)

    money = _money(service)
    assert (money["shortfalls"], money["shortfall_nanousd"]) == (1, 2 * 10**9)


def test_the_last_check_of_the_whole_ledger_is_told(service: CreditsClient) -> None:
    service.top_up("ann", "5")
    before = _money(service)
    service.call("GET", "/integrity?user_id=ann", api_key=ADMIN_KEY)
    of_one_account = _money(service)

    service.assert_sound()

    assert before["integrity_violations"] is before["integrity_check_age_seconds"] is None
    assert of_one_account["integrity_violations"] is None
    assert _money(service)["integrity_violations"] == 0
    assert _money(service)["integrity_check_age_seconds"] < 60
