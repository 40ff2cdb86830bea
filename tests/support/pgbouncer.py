"""PgBouncer in transaction mode, in front of a test's PostgreSQL server."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from support.components import skip_or_fail
from support.postgres_cluster import (
    DATABASE,
    HOST,
    SUPERUSER,
    PostgresServer,
    as_owner,
    free_port,
    wait_until,
)

_SBIN = "/usr/sbin"


@contextmanager
def pgbouncer(server: PostgresServer, *, connections: int) -> Iterator[str]:
    """Run PgBouncer and yield the `DATABASE_URL` through it.

    Args:
        server: where its connections lead.
        connections: how many it opens to PostgreSQL, whatever the number of its clients.
    """
    port = free_port()
    settings = {
        "listen_addr": HOST,
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": connections,
        "max_client_conn": 100,
    }
    target = f"host={HOST} port={server.port} user={SUPERUSER} dbname={DATABASE}"
    lines = [f"[databases]\n{DATABASE} = {target}\n[pgbouncer]"]
    lines += [f"{name} = {value}" for name, value in settings.items()]
    with running_pgbouncer(server, "\n".join(lines) + "\n", port) as url:
        yield url


@contextmanager
def running_pgbouncer(server: PostgresServer, settings: str, port: int) -> Iterator[str]:
    """Run PgBouncer with the text of a settings file; yield the `DATABASE_URL` through it."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:{_SBIN}")
    if program is None:
        skip_or_fail("PgBouncer is not installed")
    file = server.folder / "pgbouncer.ini"
    file.write_text(settings, encoding="utf-8")
    with (server.folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), str(file)],
            stdout=log,
            stderr=log,
            **as_owner(),  # type: ignore[call-overload]  # options by name
        )
        try:
            wait_until("PgBouncer listens", lambda: _listens(port))
            yield f"postgresql://{SUPERUSER}@{HOST}:{port}/{DATABASE}"
        finally:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False
