"""`deploy/pgbouncer/pgbouncer.ini`: the service works through it, and it lends transactions."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from credits.client import CreditsClient, credits_process
from support.pgbouncer import running_pgbouncer
from support.postgres_cluster import (
    DATABASE,
    HOST,
    SUPERUSER,
    PostgresServer,
    free_port,
    postgres_server,
)

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "pgbouncer" / "pgbouncer.ini"


@contextmanager
def example_running(server: PostgresServer) -> Iterator[str]:
    """Run PgBouncer with the example; only addresses, and who may come, are the test's own."""
    port = free_port()
    text = EXAMPLE.read_text(encoding="utf-8")
    for old, new in {
        r"^credits = .*$": f"{DATABASE} = host={HOST} port={server.port} user={SUPERUSER}",
        r"^listen_port = .*$": f"listen_port = {port}\nunix_socket_dir =",
        r"^auth_type = .*$": "auth_type = any",
        r"^auth_file = .*$": "",
    }.items():
        text, count = re.subn(old, new, text, flags=re.MULTILINE)
        assert count == 1, old
    with running_pgbouncer(server, text, port) as url:
        yield url


def test_the_ledger_works_through_the_example() -> None:
    with (
        postgres_server() as server,
        example_running(server) as url,
        credits_process(url, DATABASE_POOLER="transaction") as service,
        CreditsClient(service.url) as client,
    ):
        client.top_up("ann", "5")
        assert client.bill("ann", "1").status_code == 200
        client.assert_sound()

        through = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'ledger'"
        # psql itself is one; the service has more clients of PgBouncer than that.
        assert int(server.sql(through)) >= 2
