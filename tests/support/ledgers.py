"""Empty ledgers for tests that need more than the one of the `ledger_url` fixture."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import real_components_required
from support.databases import postgres_database, postgres_problem


@contextmanager
def empty_ledger(engine: str, folder: Path) -> Iterator[str]:
    """Yield the `DATABASE_URL` of an empty ledger on an engine; skip if there is none."""
    if engine == "sqlite":
        yield f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}"
        return
    problem = postgres_problem()
    if problem is not None:
        if real_components_required():
            pytest.fail(f"PostgreSQL is required in CI and could not be reached: {problem}")
        pytest.skip(f"PostgreSQL could not be reached: {problem}")
    with postgres_database() as url:
        yield url
