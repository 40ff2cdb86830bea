"""Empty databases to measure on: SQLite files, and PostgreSQL where one can be reached."""

import asyncio
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
from benchmarks.report import Report

DEFAULT_POSTGRES_URL = "postgresql://root@127.0.0.1:5432/test"
SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
_CONNECT_SECONDS_MAX = 5


def _server() -> str:
    return os.environ.get("TEST_DATABASE_URL", DEFAULT_POSTGRES_URL).replace("+asyncpg", "")


async def _execute(statement: str) -> str:
    connection = await asyncpg.connect(_server(), timeout=_CONNECT_SECONDS_MAX)
    try:
        return str(await connection.fetchval(statement))
    finally:
        await connection.close()


def postgres_version() -> str:
    """Return the server's version with the settings that decide what a commit costs.

    Raises:
        OSError, TimeoutError, asyncpg.PostgresError: it can't be used.
    """
    settings = (
        "current_setting('server_version') || ', fsync ' || current_setting('fsync') "
        "|| ', synchronous_commit ' || current_setting('synchronous_commit')"
    )
    return asyncio.run(_execute(f"SELECT {settings}"))


def forbid_autovacuum(url: str) -> None:
    """Let the tables of a database have no new statistics."""
    asyncio.run(_forbid_autovacuum(url.replace("+asyncpg", "")))


async def _forbid_autovacuum(url: str) -> None:
    connection = await asyncpg.connect(url, timeout=_CONNECT_SECONDS_MAX)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname='public'")
        for (table,) in tables:
            await connection.execute(f'ALTER TABLE "{table}" SET (autovacuum_enabled = off)')
    finally:
        await connection.close()


@contextmanager
def _postgres_database() -> Iterator[str]:
    name = f"ledger_bench_{uuid.uuid4().hex}"
    asyncio.run(_execute(f'CREATE DATABASE "{name}"'))
    try:
        yield f"{_server().rpartition('/')[0]}/{name}".replace("://", "+asyncpg://", 1)
    finally:
        asyncio.run(_execute(f'DROP DATABASE "{name}" WITH (FORCE)'))


@contextmanager
def databases(folder: Path, report: Report, count: int = 1) -> Iterator[dict[str, list[str]]]:
    """Yield the URLs of so many empty databases of each kind that there is."""
    with ExitStack() as stack:
        mark = uuid.uuid4().hex[:8]
        paths = [folder / f"ledger-{mark}-{number}.sqlite3" for number in range(count)]
        found = {SQLITE: [f"sqlite+aiosqlite:///{path}" for path in paths]}
        try:
            postgres_version()
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            reason = f"{type(error).__name__}: {error} (TEST_DATABASE_URL names another server)"
            report.leave_out(POSTGRESQL, reason)
        else:
            found[POSTGRESQL] = [stack.enter_context(_postgres_database()) for _ in range(count)]
        yield found
