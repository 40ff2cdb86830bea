"""Top-ups, accounts and journals over HTTP."""

from credits.client import ADMIN_KEY, CreditsClient, assert_problem


def test_a_top_up_makes_the_account_and_adds_lots_in_order_of_use(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    service.top_up("ann", "2", priority=10, source="promo", expires_at="2999-01-01T00:00:00+02:00")
    body = service.top_up("ann", "3.000000001", reference="pay-1")
    assert (body["amount"], body["balance"], body["seq"]) == ("3.000000001", "6.000000001", 3)
    account = service.account("ann")
    assert (account["status"], account["unit"], account["shortfall"]) == ("open", "USD", "0")
    assert [lot["remaining"] for lot in account["lots"]] == ["2", "1", "3.000000001"]
    assert account["lots"][0]["expires_at"] == "2998-12-31T22:00:00.000000Z"
    service.bill("ann", "2.5")
    assert [lot["remaining"] for lot in service.account("ann")["lots"]] == ["0.5", "3.000000001"]
    service.assert_sound()


def test_a_payment_is_booked_once(service: CreditsClient) -> None:
    service.top_up("ann", "1", reference="pay-1")
    body = {"user_id": "bob", "amount": "1", "reference": "pay-1"}
    response = service.call("POST", "/topup", body, key="other", api_key=ADMIN_KEY)
    assert_problem(response, 409, "reference_used")
    assert_problem(service.call("GET", "/accounts/bob"), 404, "account_not_found")
    service.assert_sound()


def test_a_top_up_is_replayed(service: CreditsClient) -> None:
    body = {"user_id": "ann", "amount": "1", "reference": "pay-1"}
    first = service.call("POST", "/topup", body, key="t", api_key=ADMIN_KEY)
    again = service.call("POST", "/topup", body, key="t", api_key=ADMIN_KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert service.account("ann")["balance"] == "1"


def test_keys_of_different_callers_never_meet(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    body = {"user_id": "ann", "amount": "0.1", "description": "x"}
    service.call("POST", "/bill", body, key="same")
    other = service.call("POST", "/bill", body, key="same", api_key=ADMIN_KEY)
    assert "idempotency-replayed" not in other.headers
    assert service.account("ann")["balance"] == "0.8"


def test_pages_of_the_journal_neither_overlap_nor_skip_while_it_grows(
    service: CreditsClient,
) -> None:
    service.top_up("ann", "100")
    for _ in range(6):
        service.bill("ann", "1")
    seen: list[int] = []
    path = "/accounts/ann/transactions?limit=3"
    cursor: str | None = ""
    while cursor is not None:
        suffix = f"&cursor={cursor}" if cursor else ""
        page = service.call("GET", path + suffix).json()
        seen += [booked["seq"] for booked in page["transactions"]]
        cursor = page["next_cursor"]
        service.bill("ann", "1")
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    assert [booked["seq"] for booked in service.transactions("ann")] == list(range(1, 11))


def test_pages_of_accounts(service: CreditsClient) -> None:
    users = ["ann", "bob", "org/team:1", "zoë", "名"]
    for user_id in users:
        service.top_up(user_id, "1")
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        suffix = f"&cursor={cursor}" if cursor else ""
        page = service.call("GET", f"/accounts?limit=2{suffix}").json()
        seen += [account["user_id"] for account in page["accounts"]]
        cursor = page["next_cursor"]
    assert sorted(seen) == sorted(users)
    assert service.account("org%2Fteam:1")["user_id"] == "org/team:1"
    assert len(service.transactions("org/team:1")) == 1
    service.assert_sound()
