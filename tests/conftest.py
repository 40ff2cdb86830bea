"""What every test may use: the two ledger engines, named plainly in the report."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.databases import postgres_problem
from support.ledgers import ENGINES, empty_ledger

_TESTS = Path(__file__).parent


# Where several processes share the files, the longest go first, or one would end alone.
_LONGEST_FIRST = ("cluster", "faults", "system", "clients", "deploy", "credits")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders whose files take longest."""
    ranks = {name: rank for rank, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.relative_to(_TESTS).parts[0], len(ranks)))


# Whole topologies, backups and images take minutes: `make test-long` has them as well.
_LONG = (
    "cluster",
    "deploy/test_image_start.py",
    "faults/test_backup.py",
    "faults/test_kept_store_faults.py",
    "system/test_soak.py",
)
_ALL = os.environ.get("LONG_TESTS") == "1"
collect_ignore = [] if _ALL else [*_LONG]


def pytest_report_header() -> list[str]:
    """Say on which ledger engines this run really tests, and what it leaves to the long one."""
    left_out = [] if _ALL else [f"left to LONG_TESTS=1 (make test-long): {', '.join(_LONG)}"]
    problem = postgres_problem()
    if problem is None:
        return ["ledger engines: SQLite and PostgreSQL", *left_out]
    return [
        *left_out,
        f"ledger engines: SQLite only; PostgreSQL could not be reached ({problem}).",
        "  Set TEST_DATABASE_URL=postgresql://user@host:5432/db to test on PostgreSQL as well.",
    ]


@pytest.fixture(params=ENGINES)
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """`DATABASE_URL` of an empty ledger, once on SQLite and once on PostgreSQL."""
    with empty_ledger(request.param, tmp_path) as url:
        yield url
