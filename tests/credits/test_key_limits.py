"""Spend limits of issued keys: as an account's, and beside them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from credits.calendar_ledger import CalendarLedger
from credits.client import CreditsClient, app_of, assert_problem
from credits.key_owner import KeyOwner
from credits.load import Request, all_at_once
from credits_service.ledger.operations import (
    AmendHold,
    ChangeAccount,
    Charge,
    PlaceHold,
    Refund,
    ReleaseHold,
    SettleDue,
    TopUp,
)
from support.live_server import live_server

HOUR = 3_600_000_000
_AT_ONCE = 200
_ALLOWED = 50


class Ledger(CalendarLedger):
    """Its account has two keys."""

    def __init__(self) -> None:
        super().__init__()
        self.key = self.driver.make_key("ann", {})
        self.other = self.driver.make_key("ann", {})

    def limit(self, **nanos: int | None) -> None:
        self.driver.limit_key(self.key, nanos)

    def bill(self, nanos: int, key: str | None = None) -> int:
        return int(self.do(Charge("ann", nanos, key_id=key or self.key))["status_code"])

    def hold(self, nanos: int, minimum: int | None = None) -> dict[str, Any]:
        return self.do(PlaceHold("ann", nanos, HOUR, minimum, key_id=self.key))

    def spent(self) -> tuple[int, int]:
        """Return what the key has spent, ever, and what it holds."""
        key = self.driver.states["ann"].keys[self.key]
        return key.spent_total_nanos, key.held_nanos


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    found = Ledger()
    yield found
    assert found.driver.violations() == []


def test_a_key_is_bound_and_its_account_and_the_other_key_are_not(ledger: Ledger) -> None:
    ledger.limit(total=100)
    assert [ledger.bill(100), ledger.bill(1)] == [200, 402]
    assert ledger.bill(200, ledger.other) == 200
    assert ledger.do(Charge("ann", 200))["status_code"] == 200
    assert ledger.spent() == (100, 0)


def test_days_and_months_are_those_of_the_calendar_in_utc(ledger: Ledger) -> None:
    ledger.limit(day=100, month=150)
    ledger.at("2027-01-20T23:59:59.999999")
    assert [ledger.bill(101), ledger.bill(100), ledger.bill(1)] == [402, 200, 402]
    ledger.at("2027-01-21T00:00:00")
    assert [ledger.bill(51), ledger.bill(50), ledger.bill(1)] == [402, 200, 402]
    ledger.at("2027-02-01T00:00:00")
    assert [ledger.bill(100), ledger.bill(1)] == [200, 402]


def test_the_tightest_limit_counts_and_is_named(ledger: Ledger) -> None:
    ledger.limit(day=60, month=50, total=55)
    ledger.do(ChangeAccount("ann", settings={"limit_day_nanos": 100}))
    body = ledger.do(Charge("ann", 51, key_id=ledger.key))
    assert (body["code"], body["limit"]) == ("spend_limit_reached", "key_month")
    assert (body["available"], body["required"]) == ("0.00000005", "0.000000051")
    assert body["retryable"] is False
    assert "month limit of the key" in body["detail"]
    ledger.do(ChangeAccount("ann", settings={"limit_day_nanos": 40}))
    assert ledger.do(Charge("ann", 51, key_id=ledger.key))["limit"] == "day"
    # Without the credit for it, it is the credit that is missing.
    body = ledger.do(Charge("ann", 1001, key_id=ledger.key))
    assert (body["code"], "limit" in body) == ("insufficient_credit", False)


def test_what_holds_of_the_key_reserve_counts_until_they_end(ledger: Ledger) -> None:
    ledger.limit(day=100)
    # What the account and its other keys hold does not count for this one.
    ledger.do(PlaceHold("ann", 500, HOUR, key_id=ledger.other))
    placed = ledger.hold(70)
    assert placed["spendable"] == "0.00000003"
    body = ledger.do(Charge("ann", 31, key_id=ledger.key))
    assert (body["limit"], body["retryable"]) == ("key_day", True)
    assert ledger.do(Charge("ann", 101, key_id=ledger.key))["retryable"] is False
    assert ledger.hold(31)["status_code"] == 402
    assert ledger.hold(31, 30)["amount"] == "0.00000003"
    # A raise: what the hold reserves itself does not become free by waiting.
    body = ledger.do(AmendHold(placed["hold_id"], 71))
    assert (body["status_code"], body["limit"], body["retryable"]) == (402, "key_day", True)
    assert ledger.do(AmendHold(placed["hold_id"], 101))["retryable"] is False
    assert ledger.do(ReleaseHold(placed["hold_id"]))["spendable"] == "0.00000007"
    assert [ledger.bill(71), ledger.bill(70)] == [402, 200]
    assert ledger.spent() == (70, 30)


def test_a_raise_counts(ledger: Ledger) -> None:
    ledger.limit(day=100)
    hold_id = ledger.hold(40)["hold_id"]
    assert ledger.do(AmendHold(hold_id, 90))["spendable"] == "0.00000001"
    assert [ledger.bill(11), ledger.bill(10)] == [402, 200]
    assert ledger.spent() == (10, 90)


def test_a_capture_counts_for_the_key_of_its_hold_and_is_never_refused(ledger: Ledger) -> None:
    """Whatever key it names, and beyond every limit: the use has happened."""
    ledger.limit(day=100)
    hold_id = ledger.hold(50)["hold_id"]
    ledger.limit(day=10)
    body = ledger.do(Charge("ann", 30, hold_id=hold_id, final=False, key_id=ledger.other))
    assert (body["status_code"], ledger.spent()) == (200, (30, 20))
    body = ledger.do(Charge("ann", 120, hold_id=hold_id, key_id="no-key"))
    assert (body["status_code"], body["amount"]) == (200, "0.00000012")
    assert ledger.spent() == (150, 0)
    assert ledger.driver.states["ann"].keys[ledger.other].spent_total_nanos == 0


def test_expiry_charges_the_key_and_so_does_a_late_capture(ledger: Ledger) -> None:
    ledger.limit(total=100)
    hold_id = ledger.hold(60)["hold_id"]
    ledger.do(AmendHold(hold_id, progress_nanos=20))
    ledger.driver.clock.micros += HOUR
    ledger.do(SettleDue("ann"))
    assert ledger.spent() == (20, 0)
    # What the expiry settled is not taken again.
    assert ledger.do(Charge("ann", 50, hold_id=hold_id))["amount"] == "0.00000003"
    assert [ledger.bill(51), ledger.bill(50)] == [402, 200]


def test_a_refund_gives_back_credit_and_no_allowance(ledger: Ledger) -> None:
    ledger.limit(day=100)
    charge = ledger.do(Charge("ann", 100, key_id=ledger.key))["transaction_id"]
    assert ledger.do(Refund(charge, "wrong"))["balance"] == "0.000001"
    assert ledger.bill(1) == 402


@pytest.mark.parametrize("whose", ["bob's", "nobody's"])
def test_what_is_no_key_of_the_account_is_refused(ledger: Ledger, whose: str) -> None:
    """A limit that a wrong id takes away would be none."""
    ledger.do(TopUp("bob", 1000))
    key_id = ledger.driver.make_key("bob", {}) if whose == "bob's" else "no-key"
    for operation in (Charge("ann", 1, key_id=key_id), PlaceHold("ann", 1, HOUR, key_id=key_id)):
        body = ledger.do(operation)
        assert (body["status_code"], body["errors"][0]["field"]) == (422, "key_id")
    assert ledger.driver.states["ann"].account.held_nanos == 0


def test_a_hold_of_an_older_version_with_a_note_for_a_key_is_settled(ledger: Ledger) -> None:
    """Its `key_id` was the caller's own; there were no issued keys."""
    hold_id = ledger.hold(50)["hold_id"]
    state = ledger.driver.states["ann"]
    state.holds[hold_id].key_id = "my note"
    state.keys[ledger.key].held_nanos = 0
    assert ledger.do(AmendHold(hold_id, 60))["status_code"] == 200
    assert ledger.do(Charge("ann", 20, hold_id=hold_id))["status_code"] == 200
    assert ledger.spent() == (0, 0)


def test_over_http_a_revoked_key_is_settled_and_still_bound(service: CreditsClient) -> None:
    owner = KeyOwner(service)
    key_id = owner.make(limits={"day": "2"})["key_id"]
    hold = service.held(owner.account, "1.5", key_id=key_id)
    assert (hold["key_id"], hold["available"], hold["spendable"]) == (key_id, "3.5", "0.5")
    assert service.call("GET", f"/holds/{hold['hold_id']}").json()["spendable"] == "0.5"
    problem = assert_problem(
        service.bill(owner.account, "1", key_id=key_id), 402, "spend_limit_reached"
    )
    assert (problem["limit"], problem["available"]) == ("key_day", "0.5")
    owner.done("DELETE", f"/keys/{key_id}")
    charged = service.bill(owner.account, "1", hold_id=hold["hold_id"])
    assert (charged.status_code, charged.json()["amount"]) == (200, "1")
    details = [row["details"] for row in service.transactions(owner.account)]
    assert details[-1] == {"end": "captured", "key_id": key_id}
    assert service.hold(owner.account, "1.5", key_id=key_id).status_code == 402
    assert service.bill(owner.account, "1", key_id=key_id).status_code == 200
    assert service.transactions(owner.account)[-1]["details"] == {"key_id": key_id}
    service.held(owner.account, "0.25", key_id=owner.make()["key_id"])
    shown = owner.done("GET", f"/keys/{key_id}")
    assert (shown["spent"], shown["held"]) == ({"day": "2", "month": "2", "total": "2"}, "0")
    service.assert_sound()


def test_a_changed_limit_counts_from_the_next_hold_on(service: CreditsClient) -> None:
    owner = KeyOwner(service)
    key_id = owner.make(limits={"total": "1"})["key_id"]
    assert service.hold(owner.account, "2", key_id=key_id).status_code == 402
    owner.done("PATCH", f"/keys/{key_id}", {"limits": {"total": "2"}})
    assert service.hold(owner.account, "2", key_id=key_id).status_code == 201
    owner.done("PATCH", f"/keys/{key_id}", {"limits": {"total": None}})
    assert service.hold(owner.account, "2", key_id=key_id).status_code == 201
    service.assert_sound()


@pytest.fixture
def base_urls(ledger_url: str) -> Iterator[list[str]]:
    """Two services on one PostgreSQL, or one on SQLite."""
    with live_server(app_of(ledger_url)) as first:
        if ledger_url.startswith("sqlite"):
            yield [first]
            return
        with live_server(app_of(ledger_url)) as second:
            yield [first, second]


def test_holds_and_charges_at_once_take_what_the_key_may_and_no_more(
    base_urls: list[str],
) -> None:
    with CreditsClient(base_urls[0]) as client:
        owner = KeyOwner(client)
        client.top_up(owner.account, "995")
        key_id = owner.make(limits={"day": str(_ALLOWED)})["key_id"]
        body = {"user_id": owner.account, "amount": "1", "key_id": key_id}
        requests: list[Request] = [
            ("/bill", body, f"{owner.account}-b{number}")
            if number % 2
            else ("/holds", body, f"{owner.account}-h{number}")
            for number in range(_AT_ONCE)
        ]
        answers = all_at_once(base_urls, requests)
        statuses = Counter(answer.status_code for answer in answers)
        assert statuses[200] + statuses[201] == _ALLOWED
        assert statuses[402] == _AT_ONCE - _ALLOWED
        refused = {a.json()["limit"] for a in answers if a.status_code == 402}
        assert refused == {"key_day"}
        account = client.account(owner.account)
        assert (account["spent"]["day"], account["held"]) == (
            str(statuses[200]),
            str(statuses[201]),
        )
        client.assert_sound()
