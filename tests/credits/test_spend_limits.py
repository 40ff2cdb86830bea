"""Spend limits: a day and a month of the calendar (UTC), and ever."""

import pytest

from credits.calendar_ledger import CalendarLedger
from credits.client import ADMIN_KEY, CreditsClient, assert_problem
from credits_service.ledger.operations import (
    AmendHold,
    ChangeAccount,
    Charge,
    PlaceHold,
    Refund,
    ReleaseHold,
    TopUp,
)

HOUR = 3_600_000_000


class Ledger(CalendarLedger):
    """Its account has limits."""

    def limit(self, **nanos: int | None) -> None:
        settings = {f"limit_{name}_nanos": value for name, value in nanos.items()}
        assert self.do(ChangeAccount("ann", settings=settings))["status_code"] == 200

    def bill(self, nanos: int) -> int:
        return int(self.do(Charge("ann", nanos))["status_code"])


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_a_day_ends_at_midnight_in_utc(ledger: Ledger) -> None:
    ledger.limit(day=100)
    ledger.at("2027-01-20T00:00:00")
    assert [ledger.bill(60), ledger.bill(41), ledger.bill(40), ledger.bill(1)] == [
        200,
        402,
        200,
        402,
    ]
    ledger.at("2027-01-20T23:59:59.999999")
    assert ledger.bill(1) == 402
    ledger.at("2027-01-21T00:00:00")
    assert [ledger.bill(100), ledger.bill(1)] == [200, 402]
    assert ledger.driver.violations() == []


def test_a_month_ends_with_its_last_day(ledger: Ledger) -> None:
    ledger.limit(month=100)
    assert ledger.bill(30) == 200
    ledger.at("2027-01-31T23:59:59.999999")
    assert [ledger.bill(71), ledger.bill(70)] == [402, 200]
    ledger.at("2027-02-01T00:00:00")
    assert [ledger.bill(100), ledger.bill(1)] == [200, 402]
    # The same month and day of another year.
    ledger.at("2028-02-01T00:00:00")
    assert [ledger.bill(100), ledger.bill(1)] == [200, 402]
    assert ledger.driver.violations() == []


def test_a_total_is_never_forgotten(ledger: Ledger) -> None:
    ledger.limit(total=100)
    assert ledger.bill(60) == 200
    ledger.at("2031-05-01T00:00:00")
    assert [ledger.bill(41), ledger.bill(40), ledger.bill(1)] == [402, 200, 402]
    ledger.limit(total=None)
    assert ledger.bill(1) == 200
    assert ledger.driver.violations() == []


def test_the_tightest_limit_counts_and_is_named(ledger: Ledger) -> None:
    ledger.limit(day=50, month=40, total=2000)
    body = ledger.do(Charge("ann", 41))
    assert body["code"] == "spend_limit_reached"
    assert (body["limit"], body["available"], body["required"]) == (
        "month",
        "0.00000004",
        "0.000000041",
    )
    assert body["retryable"] is False
    ledger.limit(day=30)
    assert ledger.do(Charge("ann", 41))["limit"] == "day"
    # Without the credit for it, it is the credit that is missing.
    body = ledger.do(Charge("ann", 1001))
    assert (body["code"], "limit" in body) == ("insufficient_credit", False)


def test_what_holds_reserve_counts_until_they_end(ledger: Ledger) -> None:
    ledger.limit(day=100)
    hold = ledger.do(PlaceHold("ann", 70, HOUR))["hold_id"]
    body = ledger.do(Charge("ann", 31))
    assert (body["code"], body["retryable"]) == ("spend_limit_reached", True)
    assert ledger.do(Charge("ann", 101))["retryable"] is False
    assert ledger.do(PlaceHold("ann", 31, HOUR))["status_code"] == 402
    assert ledger.do(PlaceHold("ann", 31, HOUR, 30))["amount"] == "0.00000003"
    # A raise: what the hold reserves itself does not become free by waiting.
    body = ledger.do(AmendHold(hold, 71))
    assert (body["status_code"], body["limit"], body["retryable"]) == (402, "day", True)
    assert ledger.do(AmendHold(hold, 101))["retryable"] is False
    ledger.do(ReleaseHold(hold))
    assert [ledger.bill(71), ledger.bill(70)] == [402, 200]
    assert ledger.driver.violations() == []


def test_a_capture_is_always_booked_and_counts(ledger: Ledger) -> None:
    ledger.limit(day=100)
    hold = ledger.do(PlaceHold("ann", 50, HOUR))["hold_id"]
    body = ledger.do(Charge("ann", 150, hold_id=hold))
    assert (body["status_code"], body["amount"]) == (200, "0.00000015")
    body = ledger.do(Charge("ann", 1))
    assert (body["status_code"], body["available"]) == (402, "0")
    assert ledger.driver.violations() == []


def test_a_refund_gives_back_credit_and_no_allowance(ledger: Ledger) -> None:
    ledger.limit(day=100)
    charge = ledger.do(Charge("ann", 100))["transaction_id"]
    assert ledger.do(Refund(charge, "wrong"))["balance"] == "0.000001"
    assert ledger.bill(1) == 402
    assert ledger.driver.violations() == []


def test_expired_and_forfeited_credit_was_not_spent(ledger: Ledger) -> None:
    ledger.do(TopUp("ann", 100, expires_at_micros=ledger.driver.clock() + HOUR))
    ledger.driver.clock.micros += HOUR
    assert ledger.bill(5) == 200
    account = ledger.driver.states["ann"].account
    assert (account.spent_day_nanos, account.spent_total_nanos) == (5, 5)
    ledger.do(ChangeAccount("ann", "closed", forfeit=True))
    assert account.spent_total_nanos == 5
    assert ledger.driver.violations() == []


def test_over_http_an_account_tells_its_limits_and_what_is_spent(service: CreditsClient) -> None:
    service.top_up("ann", "10")
    body = {"limits": {"day": "3", "month": 5, "total": "8.5"}}
    assert service.call("PATCH", "/accounts/ann", body, api_key=ADMIN_KEY).status_code == 200
    assert service.bill("ann", "1").status_code == 200
    service.held("ann", "0.5")
    account = service.account("ann")
    assert account["limits"] == {"day": "3", "month": "5", "total": "8.5"}
    assert account["spent"] == {"day": "1", "month": "1", "total": "1"}
    assert (account["available"], account["spendable"]) == ("8.5", "1.5")
    problem = assert_problem(service.bill("ann", "2"), 402, "spend_limit_reached")
    assert (problem["limit"], problem["available"], problem["retryable"]) == ("day", "1.5", True)
    service.assert_sound()
