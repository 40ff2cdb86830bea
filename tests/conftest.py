"""What every test may use: the two ledger engines, named plainly in the report."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.databases import postgres_problem
from support.ledgers import ENGINES, empty_ledger


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
    with empty_ledger(request.param, tmp_path) as url:
        yield url
