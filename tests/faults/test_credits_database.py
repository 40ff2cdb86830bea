"""PostgreSQL breaks connections under load: 503 or the truth, and back without a restart."""

import asyncio

import asyncpg
import httpx
import pytest

from credits.client import CreditsClient, credits_process
from credits.load import Request, send_at_once
from support.databases import postgres_database, require_postgres

REQUESTS = 150
CUTS = 5


@pytest.fixture
def ledger() -> str:
    require_postgres()
    return ""


async def _cut_connections(url: str) -> None:
    """End every connection of the service to its database, whatever it is doing."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()


async def _load_while_cutting(
    base_url: str, database_url: str, requests: list[Request]
) -> list[httpx.Response | httpx.TransportError]:
    load = asyncio.ensure_future(send_at_once([base_url], requests))
    for _ in range(CUTS):
        await _cut_connections(database_url)
        # Let the service meet the broken connection before the next one is cut.
        await send_at_once([base_url], requests[:1])
    return await load


@pytest.mark.usefixtures("ledger")
def test_cut_connections_lose_and_double_nothing() -> None:
    requests: list[Request] = [
        ("/bill", {"user_id": "ann", "amount": "1", "description": f"k{n}"}, f"k{n}")
        for n in range(REQUESTS)
    ]
    with (
        postgres_database() as url,
        credits_process(url) as process,
        CreditsClient(process.url) as client,
    ):
        client.top_up("ann", "1000")
        during = asyncio.run(_load_while_cutting(process.url, url, requests))
        for response in during:
            assert isinstance(response, httpx.Response)
            assert response.status_code in {200, 503}, response.text
            if response.status_code == 503:
                assert response.headers["retry-after"]
                assert response.json()["code"] == "ledger_unavailable"
        after = asyncio.run(send_at_once([process.url], requests))
        assert {r.status_code for r in after if isinstance(r, httpx.Response)} == {200}
        assert client.account("ann")["balance"] == str(1000 - REQUESTS)
        client.assert_sound()


@pytest.mark.usefixtures("ledger")
def test_an_account_locked_by_somebody_else_is_503_and_not_402() -> None:
    """Nothing is known, so nothing is refused and nothing is granted."""
    with (
        postgres_database() as url,
        credits_process(url, DATABASE_LOCK_TIMEOUT_SECONDS="0.2") as process,
        CreditsClient(process.url) as client,
    ):
        client.top_up("ann", "5")

        async def bill_while_locked() -> int:
            connection = await asyncpg.connect(url.replace("+asyncpg", ""))
            try:
                async with connection.transaction():
                    await connection.execute("SELECT * FROM accounts FOR UPDATE")
                    response = await asyncio.to_thread(client.bill, "ann", "1")
                    assert response.headers["retry-after"]
                    return response.status_code
            finally:
                await connection.close()

        assert asyncio.run(bill_while_locked()) == 503
        assert client.bill("ann", "1").status_code == 200
        client.assert_sound()
