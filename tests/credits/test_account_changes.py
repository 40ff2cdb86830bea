"""Freezing, closing, limits: who changed what and when is in the journal."""

from typing import Any

import httpx

from credits.client import ADMIN_KEY, SERVICE_KEY, CreditsClient, assert_problem


def _patch(
    client: CreditsClient, user_id: str = "ann", key: str | None = None, **body: Any
) -> httpx.Response:
    return client.call("PATCH", f"/accounts/{user_id}", body, key=key, api_key=ADMIN_KEY)


def test_freezing_and_opening_again(service: CreditsClient) -> None:
    service.top_up("ann", "5")
    frozen = _patch(service, status="frozen")
    assert (frozen.status_code, frozen.json()["status"]) == (200, "frozen")
    assert frozen.json() == service.account("ann")
    assert_problem(service.bill("ann", "1"), 403, "account_frozen")
    assert_problem(service.hold("ann", "1"), 403, "account_frozen")
    assert _patch(service, status="open").json()["status"] == "open"
    assert service.bill("ann", "1").status_code == 200
    told = [t["details"] for t in service.transactions("ann") if t["kind"] == "account_change"]
    assert told == [{"status": "frozen"}, {"status": "open"}]
    service.assert_sound()


def test_what_changes_nothing_books_nothing(service: CreditsClient) -> None:
    service.top_up("ann", "5")
    first = _patch(service, limits={"day": "2"}, low_balance="1")
    assert first.json()["seq"] == 2
    assert first.json()["limits"] == {"day": "2", "month": None, "total": None}
    for body in ({"limits": {"day": "2.0"}}, {"status": "open"}, {"limits": {"month": None}}, {}):
        again = _patch(service, **body)
        assert again.json() == first.json()
    other = _patch(service, limits={"total": "9"}, low_balance=None).json()
    assert (other["seq"], other["low_balance"]) == (3, None)
    assert other["limits"] == {"day": "2", "month": None, "total": "9"}
    last = service.transactions("ann")[-1]
    assert last["amount"] == "0"
    assert last["details"] == {"low_balance_nanos": None, "limit_total_nanos": 9_000_000_000}
    service.assert_sound()


def test_a_key_makes_the_answer_the_first_one_again(service: CreditsClient) -> None:
    service.top_up("ann", "5")
    first = _patch(service, key="k", status="frozen")
    _patch(service, status="open")
    again = _patch(service, key="k", status="frozen")
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert service.account("ann")["status"] == "open"
    response = _patch(service, key="k", status="open")
    assert_problem(response, 422, "idempotency_key_reused", "Idempotency-Key")


def test_closing_needs_an_empty_account_or_forfeit_and_is_final(service: CreditsClient) -> None:
    service.top_up("ann", "5", priority=1)
    service.top_up("ann", "2", priority=2)
    charge = service.bill("ann", "1").json()["transaction_id"]
    hold_id = service.held("ann", "1")["hold_id"]
    for forfeit in (False, True):
        response = _patch(service, status="closed", forfeit=forfeit)
        assert_problem(response, 409, "account_has_holds")
    service.call("DELETE", f"/holds/{hold_id}")
    problem = assert_problem(_patch(service, status="closed"), 409, "account_not_empty")
    assert (problem["balance"], problem["held"]) == ("6", "0")
    closed = _patch(service, status="closed", forfeit=True)
    assert closed.status_code == 200
    assert (closed.json()["status"], closed.json()["balance"]) == ("closed", "0")
    forfeiture, change = service.transactions("ann")[-2:]
    assert (forfeiture["kind"], forfeiture["amount"]) == ("forfeiture", "-6")
    assert [use["amount"] for use in forfeiture["lots"]] == ["4", "2"]
    assert change["details"] == {"status": "closed"}

    assert _patch(service, status="closed").json() == closed.json()
    assert_problem(_patch(service, status="open"), 409, "account_closed")
    assert_problem(_patch(service, limits={"day": "1"}), 409, "account_closed")
    assert_problem(service.bill("ann", "1"), 409, "account_closed")
    assert_problem(service.hold("ann", "1"), 409, "account_closed")
    top_up = {"user_id": "ann", "amount": "1"}
    response = service.call("POST", "/topup", top_up, key="t", api_key=ADMIN_KEY)
    assert_problem(response, 409, "account_closed")
    path = f"/transactions/{charge}/refund"
    response = service.call("POST", path, {"reason": "x"}, key="r", api_key=ADMIN_KEY)
    assert_problem(response, 409, "account_closed")
    service.assert_sound()


def test_an_empty_account_is_closed_without_forfeit(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    service.bill("ann", "1")
    assert _patch(service, status="closed").json()["status"] == "closed"
    kinds = [transaction["kind"] for transaction in service.transactions("ann")]
    assert kinds == ["topup", "charge", "account_change"]
    service.assert_sound()


def test_an_account_that_is_not_there_and_a_caller_without_the_right(
    service: CreditsClient,
) -> None:
    assert_problem(_patch(service, "nobody", status="frozen"), 404, "account_not_found")
    service.top_up("ann", "1")
    body = {"status": "frozen"}
    response = service.call("PATCH", "/accounts/ann", body, api_key=SERVICE_KEY)
    assert_problem(response, 403, "permission_denied")
    assert service.account("ann")["status"] == "open"
