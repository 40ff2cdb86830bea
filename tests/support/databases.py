"""Throw-away ledgers for tests: a SQLite file, or a database of its own on a real PostgreSQL."""

import asyncio
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import asyncpg

from support.components import skip_or_fail

DEFAULT_POSTGRES_URL = "postgresql://root@127.0.0.1:5432/test"
_CONNECT_TIMEOUT_SECONDS = 5


def postgres_url() -> str:
    """Return the server that tests may create databases on (`TEST_DATABASE_URL`)."""
    return os.environ.get("TEST_DATABASE_URL", DEFAULT_POSTGRES_URL).replace("+asyncpg", "")


async def _execute(*statements: str) -> None:
    connection = await asyncpg.connect(postgres_url(), timeout=_CONNECT_TIMEOUT_SECONDS)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@cache
def postgres_problem() -> str | None:
    """Return why PostgreSQL can't be used, or None when it can."""
    try:
        asyncio.run(_execute("SELECT 1"))
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def require_postgres() -> None:
    """Skip the test if PostgreSQL can't be used; fail it in CI."""
    problem = postgres_problem()
    if problem is not None:
        skip_or_fail(f"PostgreSQL could not be reached: {problem}")


@contextmanager
def postgres_database() -> Iterator[str]:
    """Create an empty database and yield its `DATABASE_URL`; drop it afterwards."""
    name = f"ledger_test_{uuid.uuid4().hex}"
    asyncio.run(_execute(f'CREATE DATABASE "{name}"'))
    base = postgres_url().rsplit("/", 1)[0]
    try:
        yield f"{base.replace('postgresql://', 'postgresql+asyncpg://')}/{name}"
    finally:
        asyncio.run(_execute(f'DROP DATABASE "{name}" WITH (FORCE)'))
