"""The cost of a charge is flat as the ledger grows: no statement of a batch scans a table."""

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Table

from credits_service.db import rows
from credits_service.db.bulk import update_statement
from credits_service.db.engine import DatabaseLimits, database_url, open_database
from credits_service.db.load_queries import QueriesTogether, Query, load_queries
from credits_service.db.migrate import migrate
from credits_service.db.tables import accounts, holds, key_spending, lots, metadata

_CHANGES: list[tuple[Table, tuple[str, ...]]] = [
    (accounts, rows.ACCOUNT_CHANGES),
    (lots, rows.LOT_CHANGES),
    (holds, rows.HOLD_CHANGES),
    (key_spending, rows.KEY_SPENDING_CHANGES),
]
_INDEX_SCAN = re.compile(r"(Index Scan|Index Only Scan|Bitmap Index Scan)\b")


def _statements(dialect: str) -> Iterator[tuple[str, int]]:
    """Yield each statement that looks rows up, with the number of its parameters."""
    for found in load_queries(dialect):
        queries: list[Query] = found.queries if isinstance(found, QueriesTogether) else [found]
        for query in queries:
            yield query.text, len(query.names)
    for table, names in _CHANGES:
        yield update_statement(table, names, dialect), len(names)


def _postgresql_plan(connection: Connection, statement: str, count: int) -> list[str]:
    """Return the plan that is made for any parameters: that of a prepared statement."""
    connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
    connection.exec_driver_sql(f"PREPARE asked AS {statement}")
    values = f"({', '.join(['NULL'] * count)})" if count else ""
    plan = connection.exec_driver_sql(f"EXPLAIN EXECUTE asked{values}")
    lines = [str(line) for line in plan.scalars()]
    connection.exec_driver_sql("DEALLOCATE asked")
    return lines


def _sqlite_plan(connection: Connection, statement: str, count: int) -> list[str]:
    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (None,) * count)
    return [str(row[3]) for row in plan]


def _scans(plan: list[str]) -> bool:
    """Whether a table or a whole index is read."""
    searched = sum(_INDEX_SCAN.search(line) is not None for line in plan)
    if searched != sum("Index Cond:" in line for line in plan):
        return True
    sqlite_scans = {f"SCAN {name}" for name in metadata.tables}
    return any("Seq Scan" in line or " ".join(line.split()[:2]) in sqlite_scans for line in plan)


@pytest.mark.parametrize(
    "plan",
    [["Seq Scan on lots"], ["Index Scan using pk_lots on lots"], ["SCAN lots USING INDEX x"]],
)
def test_a_scan_is_seen(plan: list[str]) -> None:
    assert _scans(plan)


async def test_no_statement_of_a_batch_scans_a_table(ledger_url: str) -> None:
    database = open_database(database_url(ledger_url), DatabaseLimits())
    await migrate(database.writer)
    plan_of = _sqlite_plan if database.is_sqlite else _postgresql_plan
    dialect = database.writer.dialect.name
    try:
        async with database.writer.connect() as connection:
            for statement, count in _statements(dialect):
                plan = await connection.run_sync(plan_of, statement, count)
                assert not _scans(plan), (statement, plan)
    finally:
        await database.close()
