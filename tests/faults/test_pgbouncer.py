"""Through PgBouncer in transaction mode the ledger is as right as without it."""

from collections.abc import Iterator

import pytest

from credits.client import CreditsClient, credits_process
from credits.load import Request, all_at_once
from support.pgbouncer import pgbouncer
from support.postgres_cluster import PostgresServer, postgres_server

POOLED = {"DATABASE_POOLER": "transaction"}
REQUESTS = 300


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as made:
        yield made


@pytest.fixture
def pooled_url(server: PostgresServer) -> Iterator[str]:
    server.sql(
        "DROP DATABASE IF EXISTS ledger WITH (FORCE)",
        "CREATE DATABASE ledger",
        database="postgres",
    )
    # Fewer than one service alone would like to have.
    with pgbouncer(server, connections=2) as url:
        yield url


def test_two_services_share_two_connections(pooled_url: str) -> None:
    """Consecutive transactions meet different sessions, and other services' leftovers."""
    with (
        credits_process(pooled_url, **POOLED) as first,
        credits_process(pooled_url, **POOLED) as second,
        CreditsClient(first.url) as client,
    ):
        for user_id in ("ann", "bob"):
            client.top_up(user_id, "1000")
        once: list[Request] = []
        for number in range(REQUESTS):
            path = "/holds" if number % 5 == 4 else "/bill"
            user_id = ("ann", "bob")[number % 2]
            once.append((path, {"user_id": user_id, "amount": "1"}, f"key-{number}"))
        # To each of the two services at about the same time.
        twice = [request for request in once for _ in range(2)]
        answers = all_at_once([first.url, second.url], twice)
        assert {answer.status_code for answer in answers} == {200, 201}
        for answer, duplicate in zip(answers[::2], answers[1::2], strict=True):
            assert answer.content == duplicate.content
        accounts = [client.account(user_id) for user_id in ("ann", "bob")]
        holds = REQUESTS // 5
        assert sum(int(account["held"]) for account in accounts) == holds
        assert sum(int(account["balance"]) for account in accounts) == 2000 - REQUESTS + holds
        client.assert_sound()


def test_holds_are_captured_and_accounts_read(pooled_url: str) -> None:
    with credits_process(pooled_url, **POOLED) as process, CreditsClient(process.url) as client:
        client.top_up("ann", "10")
        hold = client.held("ann", "4")
        assert client.call("PATCH", f"/holds/{hold['hold_id']}", {"amount": "5"}).is_success
        captured = client.bill("ann", "3", hold_id=hold["hold_id"])
        assert captured.json()["balance"] == "7"
        assert client.bill("ann", "8").status_code == 402
        assert len(client.transactions("ann")) == 2
        assert client.http.get("/ready").is_success
        client.assert_sound()


def test_the_limits_on_time_hold_in_every_transaction(
    pooled_url: str, server: PostgresServer
) -> None:
    """They can't be set for a session that the next transaction does not have."""
    limits = {
        "DATABASE_LOCK_TIMEOUT_SECONDS": "0.2",
        "DATABASE_STATEMENT_TIMEOUT_SECONDS": "20",
    }
    with (
        credits_process(pooled_url, **POOLED, **limits) as process,
        CreditsClient(process.url) as client,
    ):
        client.top_up("ann", "10")
        with server.session() as session:
            assert session.ask("BEGIN; LOCK TABLE accounts; SELECT 'locked';") == "locked"
            refused = client.bill("ann", "1", key="k")
            assert refused.status_code == 503
            event = process.wait_for_event(event="ledger_unavailable")
            assert "lock timeout" in event["cause"]
        assert client.bill("ann", "1", key="k").status_code == 200


def test_nothing_is_left_behind_in_a_session(pooled_url: str, server: PostgresServer) -> None:
    """Named statements would pile up in PostgreSQL, and clash with other clients' names."""
    with credits_process(pooled_url, **POOLED) as process, CreditsClient(process.url) as client:
        client.top_up("ann", "10")
        for _ in range(20):
            assert client.bill("ann", "0.1").status_code == 200
        target = f"{pooled_url}?application_name=psql"
        query = "SELECT count(*) FROM pg_prepared_statements"
        for _each_connection in range(4):
            assert server.run("psql", "-XqtA", "-d", target, "-c", query).strip() == "0"
