"""Many clients at once: never beyond the credit, never twice for one key."""

from collections import Counter

import pytest

from credits.client import CreditsClient, credits_process
from credits.load import Request, all_at_once
from support.databases import postgres_database, require_postgres

AFFORDABLE = 50
CLIENTS = 200


def _never_below_zero(client: CreditsClient, user_id: str) -> None:
    for booked in client.transactions(user_id):
        assert float(booked["balance_after"]) >= float(booked["held_after"]) >= 0
    client.assert_sound()


def test_exactly_as_many_bills_succeed_as_the_credit_pays_for(ledger_url: str) -> None:
    with credits_process(ledger_url) as process, CreditsClient(process.url) as client:
        client.top_up("ann", "50")
        bill: Request = ("/bill", {"user_id": "ann", "amount": "1", "description": "x"}, None)
        statuses = Counter(r.status_code for r in all_at_once([process.url], [bill] * CLIENTS))
        assert statuses == {200: AFFORDABLE, 402: CLIENTS - AFFORDABLE}
        assert client.account("ann")["balance"] == "0"
        _never_below_zero(client, "ann")


def test_exactly_as_many_holds_succeed_as_the_credit_covers(ledger_url: str) -> None:
    with credits_process(ledger_url) as process, CreditsClient(process.url) as client:
        client.top_up("ann", "20")
        client.top_up("ann", "30")
        holds: list[Request] = [
            ("/holds", {"user_id": "ann", "amount": "1"}, f"h{number}") for number in range(CLIENTS)
        ]
        responses = all_at_once([process.url], holds)
        placed = [r.json() for r in responses if r.status_code == 201]
        assert len(placed) == AFFORDABLE
        assert {r.status_code for r in responses} == {201, 402}
        assert client.account("ann")["available"] == "0"
        captures: list[Request] = [
            ("/bill", {"user_id": "ann", "amount": "0.6", "hold_id": hold["hold_id"]}, None)
            for hold in placed
        ]
        assert {r.status_code for r in all_at_once([process.url], captures)} == {200}
        account = client.account("ann")
        assert (account["balance"], account["held"]) == ("20", "0")
        _never_below_zero(client, "ann")


@pytest.fixture
def postgres_url() -> str:
    """Two server processes need PostgreSQL."""
    require_postgres()
    return ""


@pytest.mark.usefixtures("postgres_url")
def test_keys_raced_over_two_processes_charge_once_each() -> None:
    """Sixty keys, each sent six times at once to both servers, on credit for fifty."""
    with (
        postgres_database() as url,
        credits_process(url) as first,
        credits_process(url) as second,
        CreditsClient(first.url) as client,
    ):
        client.top_up("ann", "50")
        requests: list[Request] = [
            ("/bill", {"user_id": "ann", "amount": "1", "description": "x"}, f"k{number % 60}")
            for number in range(360)
        ]
        responses = all_at_once([first.url, second.url], requests)
        bodies: dict[str | None, set[bytes]] = {}
        for (_path, _body, key), response in zip(requests, responses, strict=True):
            assert response.status_code in {200, 402}, response.text
            bodies.setdefault(key, set()).add(response.content)
        assert {len(found) for found in bodies.values()} == {1}
        paid = [found for found in bodies.values() if b"transaction_id" in next(iter(found))]
        assert len(paid) == AFFORDABLE
        originals = [r for r in responses if "idempotency-replayed" not in r.headers]
        assert len(originals) == 60
        assert client.account("ann")["balance"] == "0"
        _never_below_zero(client, "ann")


@pytest.mark.usefixtures("postgres_url")
def test_one_key_raced_for_two_accounts_has_one_owner() -> None:
    """Their accounts' locks don't order them; the key's own uniqueness does."""
    with (
        postgres_database() as url,
        credits_process(url) as first,
        credits_process(url) as second,
        CreditsClient(first.url) as client,
    ):
        client.top_up("ann", "100")
        client.top_up("bob", "100")
        requests: list[Request] = [
            ("/bill", {"user_id": user, "amount": "1", "description": "x"}, f"k{number}")
            for number in range(60)
            for user in ("ann", "bob")
        ]
        responses = all_at_once([first.url, second.url], requests)
        assert Counter(r.status_code for r in responses) == {200: 60, 422: 60}
        spent = 200 - sum(float(client.account(user)["balance"]) for user in ("ann", "bob"))
        assert spent == 60
        client.assert_sound()
