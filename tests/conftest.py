"""What every test may use: the two ledger engines, named plainly in the report."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.databases import postgres_database, postgres_problem

ENGINES = ("sqlite", "postgresql")


def real_components_required() -> bool:
    """In CI a missing component is a failure, never a silent skip."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


def pytest_report_header() -> list[str]:
    """Say on which ledger engines this run really tests."""
    problem = postgres_problem()
    if problem is None:
        return ["ledger engines: SQLite and PostgreSQL"]
    return [
        f"ledger engines: SQLite only; PostgreSQL could not be reached ({problem}).",
        "  Set TEST_DATABASE_URL=postgresql://user@host:5432/db to test on PostgreSQL as well.",
    ]


@pytest.fixture(params=ENGINES)
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """`DATABASE_URL` of an empty ledger, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite3'}"
        return
    problem = postgres_problem()
    if problem is not None:
        if real_components_required():
            pytest.fail(f"PostgreSQL is required in CI and could not be reached: {problem}")
        pytest.skip(f"PostgreSQL could not be reached: {problem}")
    with postgres_database() as url:
        yield url
