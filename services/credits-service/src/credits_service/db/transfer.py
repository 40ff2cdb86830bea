"""Moves an embedded ledger into an empty PostgreSQL database, whole or not at all.

Everything happens in one transaction of the target's: the tables, the rows, and the checks
that they are the same rows and a sound ledger. Whatever breaks it off leaves the target as it
was. The source is only read.
"""

from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import (
    Connection,
    Select,
    String,
    Table,
    collate,
    func,
    inspect,
    literal,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from credits_service.core.errors import ConfigurationError
from credits_service.db.audit import Audit, audit
from credits_service.db.migrate import revisions, upgrade
from credits_service.db.progress import Report
from credits_service.db.tables import metadata

_ROWS_PER_BATCH = 5000
_VERSION_TABLE = "alembic_version"


class TransferError(Exception):
    """The ledger was not moved, and the target is as it was; the message says why."""


class Transfer(NamedTuple):
    """What was moved.

    Attributes:
        rows: how many of each table.
        audit: what was checked on the target.
    """

    rows: dict[str, int]
    audit: Audit


async def transfer(source: AsyncConnection, target: AsyncConnection, report: Report) -> Transfer:
    """Copy a ledger and check the copy; the caller commits, or rolls back if this raises.

    Args:
        source: of an SQLite ledger, in a transaction that keeps others from writing.
        target: of a PostgreSQL database, in a transaction, READ COMMITTED.
        report: is told of each stage.

    Raises:
        TransferError: the source's schema is not this version's, the target is not empty, or
            the copy is not the same, or not sound.
        DBAPIError: a database refused.
    """
    await source.run_sync(_assert_current)
    await target.run_sync(_make_tables)
    await _assert_empty(target)
    rows = {
        table.name: await _copy(source, target, table, report) for table in metadata.sorted_tables
    }
    # The planner knows nothing of the new rows, and the checks ask it for much.
    await target.execute(text("ANALYZE"))
    for table in metadata.sorted_tables:
        await _compare(source, target, table, rows[table.name], report)
    found = await audit(target, report=report)
    if found.violations:
        shown = "\n".join(f"  {v.invariant}: {v.user_id} {v.detail}" for v in found.violations[:20])
        raise TransferError(
            f"The ledger breaks invariants {found.violations_total} times, and did so before:\n"
            f"{shown}\nLook into them with `credits verify` first."
        )
    return Transfer(rows, found)


def _assert_current(source: Connection) -> None:
    current, head = revisions(source)
    if current != head:
        raise TransferError(
            f"The ledger has schema {current or 'none'}, this version moves schema {head}. "
            "Run `credits migrate` first, with the version of the command that fits the service."
        )


def _make_tables(target: Connection) -> None:
    """Make the tables, unless they are there, just made and unused."""
    found = set(inspect(target).get_table_names())
    if found and found != {*metadata.tables, _VERSION_TABLE}:
        raise TransferError(
            f"The target has tables already ({', '.join(sorted(found)[:5])}…). "
            "Use an empty database."
        )
    try:
        upgrade(target)
    except ConfigurationError as error:
        raise TransferError(f"The target can't be used. {error}") from None


async def _assert_empty(target: AsyncConnection) -> None:
    names = ", ".join(metadata.tables)
    # Nobody may write to it meanwhile: a service that was started too early has to wait.
    await target.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))
    for table in metadata.sorted_tables:
        if (await target.execute(select(literal(1)).select_from(table).limit(1))).first():
            raise TransferError(
                f"The target holds a ledger already ({table.name} has rows). Use an empty database."
            )


async def _copy(
    source: AsyncConnection, target: AsyncConnection, table: Table, report: Report
) -> int:
    stage, names = f"copying {table.name}", [column.name for column in table.columns]
    total = await source.scalar(select(func.count()).select_from(table)) or 0
    done = 0
    report(stage, done, total)
    driver: Any = (await target.get_raw_connection()).driver_connection
    async with source.stream(select(table)) as result:
        async for batch in result.partitions(_ROWS_PER_BATCH):
            try:
                await driver.copy_records_to_table(table.name, records=batch, columns=names)
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                if driver.is_closed():
                    raise ConnectionError(f"the target was lost while {stage}") from error
                raise TransferError(f"The target refused a row of {table.name}: {error}") from error
            done += len(batch)
            report(stage, done, total)
    return done


async def _compare(
    source: AsyncConnection, target: AsyncConnection, table: Table, rows: int, report: Report
) -> None:
    """Check that both have the same rows, by reading them side by side in one order."""
    stage, done = f"comparing {table.name}", 0
    report(stage, done, rows)
    async with (
        source.stream(_in_order(table, "sqlite")) as here,
        target.stream(_in_order(table, "postgresql")) as there,
    ):
        while True:
            expected = await here.fetchmany(_ROWS_PER_BATCH)
            if expected != await there.fetchmany(_ROWS_PER_BATCH):
                raise TransferError(f"{table.name} is not the same on the target.")
            if not expected:
                break
            done += len(expected)
            report(stage, done, rows)
    if done != rows:
        raise TransferError(f"{table.name}: {rows} rows were copied, {done} are there.")


def _in_order(table: Table, dialect: str) -> Select[Any]:
    """Read rows by their key; text by its bytes, as SQLite does, not in a language's order."""
    by_bytes = dialect == "postgresql"
    return select(table).order_by(
        *(
            collate(column, "C") if by_bytes and isinstance(column.type, String) else column
            for column in table.primary_key
        )
    )
