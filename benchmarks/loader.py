"""Fills a ledger with a made-up history, fast: `python -m benchmarks.loader --help`.

Rows are inserted past the service, by COPY on PostgreSQL and with large transactions on SQLite,
in constant memory. A load that is interrupted leaves a ledger that is not sound: drop it.
"""

import argparse
import asyncio
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import islice
from typing import Any, Protocol

import asyncpg
import uvloop
from benchmarks.history import Shape, Step, history
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from sqlalchemy import URL, Table

from credits_service.db.engine import DatabaseLimits, database_url, open_database
from credits_service.db.migrate import migrate

# So many steps are written at once: some ten thousand rows.
_STEPS = 20
_SQLITE_CACHE_KB = 256 * 1024
_MICROS_PER_SECOND = 1_000_000

Batch = dict[tuple[Table, tuple[str, ...]], list[tuple[Any, ...]]]


class Sink(Protocol):
    """Where rows go."""

    async def write(self, batch: Batch) -> None:
        """Append rows to their tables, in one transaction."""


class PostgresSink:
    """Copies the rows of each table in one stream."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def write(self, batch: Batch) -> None:
        """Append rows to their tables, in one transaction."""
        async with self._connection.transaction():
            for (table, names), rows in batch.items():
                await self._connection.copy_records_to_table(
                    table.name, records=rows, columns=names
                )


class SqliteSink:
    """Inserts the rows in this thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def write(self, batch: Batch) -> None:
        """Append rows to their tables, in one transaction."""
        with self._connection:
            for (table, names), rows in batch.items():
                marks = ", ".join("?" for _ in names)
                into = f"{table.name} ({', '.join(names)})"
                # The names are those of the tables' own definitions.
                statement = f"INSERT INTO {into} VALUES ({marks})"  # noqa: S608 - see above
                self._connection.executemany(statement, rows)


@asynccontextmanager
async def _postgres_sink(url: URL) -> AsyncIterator[Sink]:
    connection = await asyncpg.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False),
        # A replica looks up no foreign keys: the accounts come last.
        server_settings={"synchronous_commit": "off", "session_replication_role": "replica"},
    )
    try:
        yield PostgresSink(connection)
    finally:
        await connection.close()


@asynccontextmanager
async def _sqlite_sink(url: URL) -> AsyncIterator[Sink]:
    assert url.database
    connection = sqlite3.connect(url.database)
    try:
        # `journal_mode` is the file's; the others are this connection's.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(f"PRAGMA cache_size = -{_SQLITE_CACHE_KB}")
        yield SqliteSink(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


async def _migrate(url: URL) -> None:
    database = open_database(url, DatabaseLimits())
    try:
        await migrate(database.writer)
    finally:
        await database.close()


def _merged(steps: Sequence[Step]) -> Batch:
    batch: Batch = {}
    for step in steps:
        for table, names, rows in step.rows:
            batch.setdefault((table, names), []).extend(rows)
    return batch


async def load(url_text: str, shape: Shape, *, vacuum: bool = True) -> int:
    """Fill a ledger, which is migrated first; return the number of transactions.

    Args:
        url_text: where it is, in the form of `DATABASE_URL`.
        shape: what it is to hold besides what it has.
        vacuum: whether PostgreSQL gets its statistics, as a ledger that grew in its time has.
    """
    url = database_url(url_text)
    await _migrate(url)
    is_postgres = url.drivername.startswith("postgresql")
    steps = history(shape, ends_at_micros=time.time_ns() // 1_000 - _MICROS_PER_SECOND)
    booked = 0
    with _bar(shape) as show:
        async with (_postgres_sink if is_postgres else _sqlite_sink)(url) as sink:
            # What comes next is made up while what there is is written.
            some = list(islice(steps, _STEPS))
            while some:
                making = asyncio.create_task(asyncio.to_thread(list, islice(steps, _STEPS)))
                await sink.write(_merged(some))
                booked += sum(step.transactions for step in some)
                show(booked)
                some = await making
    if is_postgres and vacuum:
        await _vacuum(url)
    return booked


async def _vacuum(url: URL) -> None:
    connection = await asyncpg.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False)
    )
    try:
        await connection.execute("VACUUM (ANALYZE)")
    finally:
        await connection.close()


class _RateColumn(ProgressColumn):
    """Transactions per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f}/s")


@contextmanager
def _bar(shape: Shape) -> Iterator[Any]:
    """Show how far it is, at which rate, and for how long still."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=shape.transactions)
        yield lambda booked: progress.update(task, completed=booked)


def main(arguments: Sequence[str]) -> int:
    """Load, and say what was loaded."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__)
    parser.add_argument("url", help="an empty database, in the form of DATABASE_URL")
    parser.add_argument("--transactions", type=int, default=1_000_000)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--hot-share", type=float, default=0.3, help="of one account")
    chosen = parser.parse_args(arguments)
    shape = Shape(chosen.transactions, chosen.accounts, chosen.hot_share)
    began = time.perf_counter()
    booked = uvloop.run(load(chosen.url, shape))
    seconds = time.perf_counter() - began
    print(f"{booked:,} transactions in {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
