"""`GET /accounts/{id}?key_id=`: what one of the account's issued keys may spend, and until when."""

from datetime import UTC, datetime
from typing import Any

import pytest

from credits.client import CreditsClient, assert_problem
from credits.drivers import Clock
from credits.key_owner import KeyOwner
from credits_service.core.moments import MICROS_PER_SECOND, micros_from_datetime, rfc3339
from credits_service.ledger.spending import renewal

_DAY_MICROS = 86_400 * MICROS_PER_SECOND


def _standing(owner: KeyOwner, key_id: str) -> dict[str, Any]:
    account = owner.done("GET", f"/accounts/{owner.account}?key_id={key_id}")
    found: dict[str, Any] = account["key"]
    return found


def _spend(owner: KeyOwner, key_id: str, amount: str, hold: str | None = None) -> None:
    bill = {"user_id": owner.account, "amount": amount, "description": "d", "key_id": key_id}
    owner.done("POST", "/bill", bill)
    if hold is not None:
        owner.done("POST", "/holds", {"user_id": owner.account, "amount": hold, "key_id": key_id})


def test_a_key_s_limits_are_told_with_what_is_used_and_what_is_left(
    service: CreditsClient,
) -> None:
    owner = KeyOwner(service)
    key_id = owner.make(limits={"day": "1", "total": "9"})["key_id"]
    _spend(owner, key_id, "0.25", hold="0.5")

    assert _standing(owner, key_id) == {
        "key_id": key_id,
        "limits": {"day": "1", "month": None, "total": "9"},
        "spent": {"day": "0.25", "month": "0.25", "total": "0.25"},
        "held": "0.5",
        "spendable": "0.25",
        "limited_by": "key_day",
    }
    account = owner.done("GET", f"/accounts/{owner.account}")
    assert "key" not in account
    assert (account["spendable"], account["limited_by"]) == ("4.25", None)


@pytest.mark.parametrize(
    ("account_day", "key_day", "spendable", "limited_by"),
    [
        (None, None, "5", None),
        (None, "7", "5", None),
        ("2", None, "2", "day"),
        ("2", "3", "2", "day"),
        ("3", "2", "2", "key_day"),
    ],
)
def test_what_a_hold_for_the_key_could_take_is_spendable_to_the_last_nano(
    service: CreditsClient,
    account_day: str | None,
    key_day: str | None,
    spendable: str,
    limited_by: str | None,
) -> None:
    owner = KeyOwner(service)
    owner.done("PATCH", f"/accounts/{owner.account}", {"limits": {"day": account_day}})
    key_id = owner.make(limits={"day": key_day})["key_id"]

    standing = _standing(owner, key_id)

    assert (standing["spendable"], standing["limited_by"]) == (spendable, limited_by)
    hold = {"user_id": owner.account, "key_id": key_id}
    too_much = owner.call("POST", "/holds", {**hold, "amount": f"{spendable}.000000001"})
    assert (too_much.status_code, too_much.json().get("limit")) == (402, limited_by)
    owner.done("POST", "/holds", {**hold, "amount": spendable})


def test_a_day_later_a_key_s_day_is_new_and_its_due_hold_is_settled(
    timed_service: CreditsClient, clock: Clock
) -> None:
    owner = KeyOwner(timed_service)
    key_id = owner.make(limits={"day": "1", "total": "9"})["key_id"]
    _spend(owner, key_id, "0.25", hold="0.5")
    account = owner.done("GET", f"/accounts/{owner.account}")
    renews = micros_from_datetime(datetime.fromisoformat(account["renews_at"]["day"]))
    assert clock() < renews <= clock() + _DAY_MICROS

    clock.micros = renews

    standing = _standing(owner, key_id)
    assert standing["spent"]["day"] == "0"
    assert standing["spent"]["total"] == "0.25"
    assert (standing["held"], standing["spendable"]) == ("0", "1")
    timed_service.assert_sound()


@pytest.mark.parametrize(
    ("moment", "day", "month"),
    [
        ("2026-01-31T23:59:59.999999", "2026-02-01", "2026-02-01"),
        ("2026-02-01T00:00:00", "2026-02-02", "2026-03-01"),
        ("2028-02-28T12:00:00", "2028-02-29", "2028-03-01"),
        ("2026-12-01T00:00:00", "2026-12-02", "2027-01-01"),
    ],
)
def test_limits_begin_anew_with_the_calendar_s_day_and_month(
    moment: str, day: str, month: str
) -> None:
    now = micros_from_datetime(datetime.fromisoformat(moment).replace(tzinfo=UTC))

    found = renewal(now)

    midnight = "T00:00:00.000000Z"
    assert [rfc3339(each) for each in found] == [f"{day}{midnight}", f"{month}{midnight}"]


@pytest.mark.parametrize("whose", ["another's", "none", "no id"])
def test_a_key_of_another_account_is_not_told_of(service: CreditsClient, whose: str) -> None:
    owner, another = KeyOwner(service), KeyOwner(service)
    key_ids = {"another's": another.make()["key_id"], "none": "0" * 36, "no id": "sk-%00"}

    answer = owner.call("GET", f"/accounts/{owner.account}?key_id={key_ids[whose]}")

    assert_problem(answer, 422, "invalid_value", "key_id")
