"""The role for reports (`deploy/reporting_role.sql`) reads money; it changes nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from credits.client import CreditsClient, credits_process
from support.postgres_cluster import PostgresServer, postgres_server

SCRIPT = Path(__file__).parents[2] / "deploy" / "reporting_role.sql"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server with a ledger, in which something was booked, and the role."""
    with postgres_server() as made:
        with credits_process(made.url) as process, CreditsClient(process.url) as client:
            client.top_up("ann", "5")
            assert client.bill("ann", "2").status_code == 200
        for _twice in range(2):
            made.sql(SCRIPT.read_text())
        yield made


def _as_reporter(server: PostgresServer, *statements: str) -> str:
    return server.sql(*statements, user="ledger_reporting")


def test_it_reads_balances_and_statements(server: PostgresServer) -> None:
    query = "SELECT user_id, balance_nanos FROM accounts"
    assert _as_reporter(server, query) == "ann|3000000000"
    statement = "SELECT seq, kind, amount_nanos FROM transactions ORDER BY seq"
    assert _as_reporter(server, statement) == "1|topup|5000000000\n2|charge|-2000000000"
    assert _as_reporter(server, "SELECT sum(amount_nanos) FROM entries") == "0"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts SET balance_nanos = 0",
        "DELETE FROM lots",
        "INSERT INTO entries VALUES ('x', 'wallet', 'ann', 1)",
        "TRUNCATE transactions",
        "DROP TABLE entries",
        "CREATE TABLE mine (x int)",
        "SELECT * FROM accounts FOR UPDATE",
    ],
)
def test_it_changes_nothing(server: PostgresServer, statement: str) -> None:
    """Not even after it has lifted the read-only default, which any session may."""
    for before in ((), ("SET default_transaction_read_only = off",)):
        with pytest.raises(AssertionError, match=r"permission denied|read-only|must be owner"):
            _as_reporter(server, *before, statement)


@pytest.mark.parametrize("table", ["idempotency_keys", "webhook_events"])
def test_it_does_not_see_bodies(server: PostgresServer, table: str) -> None:
    with pytest.raises(AssertionError, match="permission denied"):
        _as_reporter(server, f"TABLE {table}")


def test_its_statements_have_an_end(server: PostgresServer) -> None:
    assert _as_reporter(server, "SHOW statement_timeout") == "1min"
    assert _as_reporter(server, "SHOW default_transaction_read_only") == "on"
