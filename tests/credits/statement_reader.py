"""Reads statements as their readers do, all pages as one."""

from decimal import Decimal
from typing import Any

from credits.client import SERVICE_KEY, CreditsClient, Json, bearer

FAR = "2999-01-01T00:00:00Z"
PAST = "1999-01-01T00:00:00Z"


def statement_of(client: CreditsClient, user_id: str = "ann", **query: Any) -> Json:
    """Read all pages of a statement as one."""
    query = {name.rstrip("_"): value for name, value in query.items()}
    whole: Json | None = None
    while True:
        response = client.http.get(
            f"/api/v1/accounts/{user_id}/statement", params=query, headers=bearer(SERVICE_KEY)
        )
        assert response.status_code == 200, response.text
        page: Json = response.json()
        if whole is None:
            whole = page
        else:
            whole["transactions"] += page["transactions"]
            unchanged = ("from", "to", "opening_balance", "closing_balance", "totals")
            assert [page[name] for name in unchanged] == [whole[name] for name in unchanged]
        if page["next_cursor"] is None:
            return whole
        query["cursor"] = page["next_cursor"]


def assert_adds_up(statement: Json) -> None:
    amounts = [Decimal(booked["amount"]) for booked in statement["transactions"]]
    opening, closing = Decimal(statement["opening_balance"]), Decimal(statement["closing_balance"])
    assert opening + sum(amounts) == closing
    assert sum(map(Decimal, statement["totals"].values())) == sum(amounts)
