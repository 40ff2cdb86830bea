"""Connections: one configuration of each engine, safe for money.

SQLite: WAL, synchronous=FULL, writers begin IMMEDIATE, readers on connections of their own.
PostgreSQL: READ COMMITTED, with limits on how long a lock or a statement may take.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from credits_service.core.errors import ConfigurationError

T = TypeVar("T")

SQLITE_DRIVER = "sqlite+aiosqlite"
POSTGRESQL_DRIVER = "postgresql+asyncpg"
# One for the batch in flight, one to replace it at once should it break.
_WRITER_CONNECTIONS = 2
_DRIVERS = {
    "sqlite": SQLITE_DRIVER,
    SQLITE_DRIVER: SQLITE_DRIVER,
    "postgres": POSTGRESQL_DRIVER,
    "postgresql": POSTGRESQL_DRIVER,
    POSTGRESQL_DRIVER: POSTGRESQL_DRIVER,
}


@dataclass(frozen=True, slots=True)
class DatabaseLimits:
    """How many connections, and how long things may take.

    Attributes:
        pool_size: connections for reading; writing has its own.
        connect_seconds: to open a connection.
        lock_seconds: to wait for a lock.
        statement_seconds: for one statement.
    """

    pool_size: int = 8
    connect_seconds: float = 5.0
    lock_seconds: float = 2.0
    statement_seconds: float = 10.0


class EmbeddedWriter:
    """Writes to an SQLite file, a whole transaction at a time, in a thread of its own.

    Through the async driver each statement would cross between threads twice, which costs
    more than the statement.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, "ledger-writer")

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run the work of one transaction."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def _run(self, work: Callable[[Connection], T]) -> T:
        with self._engine.connect() as connection:
            return work(connection)

    async def close(self) -> None:
        """Close the connection, where it was opened."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()


@dataclass(frozen=True, slots=True)
class Database:
    """An engine for the writer and one for readers, which never wait for each other.

    Attributes:
        embedded: how batches are written if the ledger is an SQLite file.
    """

    writer: AsyncEngine
    reader: AsyncEngine
    embedded: EmbeddedWriter | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether the ledger is the embedded one."""
        return self.writer.dialect.name == "sqlite"

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run the work of one transaction on a connection of the writer's.

        The work is written in SQLAlchemy's synchronous form, and commits by itself.
        """
        if self.embedded is not None:
            return await self.embedded.run(work)
        async with self.writer.connect() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        """Close all connections."""
        if self.embedded is not None:
            await self.embedded.close()
        await self.writer.dispose()
        await self.reader.dispose()


def database_url(text: str) -> URL:
    """Parse a `DATABASE_URL` and choose its async driver.

    Raises:
        ConfigurationError: not a URL, or of a database that is not supported.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "DATABASE_URL is not a database URL. Use postgresql://user:password@host:5432/name, "
            "or leave it empty for an embedded ledger under DATA_DIR."
        ) from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise ConfigurationError(
            f"DATABASE_URL names {url.drivername!r}, which is not supported. Use "
            "postgresql://user:password@host:5432/name, or leave it empty for SQLite."
        )
    return url.set(drivername=driver)


def open_database(url: URL, limits: DatabaseLimits) -> Database:
    """Make the engines; nothing connects yet.

    Raises:
        ConfigurationError: the folder of an SQLite file can't be made.
    """
    if url.drivername == SQLITE_DRIVER:
        return _open_sqlite(url, limits)
    # The writer only ever looks rows up by their keys. A plan that was cached while a table was
    # small would scan it for ever, so scanning is not offered.
    writer_options = {"enable_seqscan": "off", "jit": "off"}
    return Database(
        writer=_postgresql_engine(
            url, limits, _WRITER_CONNECTIONS, "READ COMMITTED", writer_options
        ),
        # What a reader puts together from several tables must be of one moment.
        reader=_postgresql_engine(url, limits, limits.pool_size, "REPEATABLE READ", {}),
    )


def _postgresql_engine(
    url: URL,
    limits: DatabaseLimits,
    pool_size: int,
    isolation_level: Literal["READ COMMITTED", "REPEATABLE READ"],
    options: dict[str, str],
) -> AsyncEngine:
    return create_async_engine(
        url,
        isolation_level=isolation_level,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=limits.connect_seconds,
        connect_args={
            "timeout": limits.connect_seconds,
            "command_timeout": limits.statement_seconds * 2,
            "server_settings": {
                "application_name": "credits-service",
                "lock_timeout": _milliseconds(limits.lock_seconds),
                "statement_timeout": _milliseconds(limits.statement_seconds),
                "idle_in_transaction_session_timeout": _milliseconds(limits.statement_seconds * 2),
                "timezone": "UTC",
                **options,
            },
        },
    )


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def _open_sqlite(url: URL, limits: DatabaseLimits) -> Database:
    if not url.database or url.database == ":memory:":
        raise ConfigurationError(
            "DATABASE_URL must name a file: an SQLite ledger in memory would be lost at the end."
        )
    folder = Path(url.database).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The folder {folder} for the ledger can't be made ({error.strerror}). Set DATA_DIR "
            "or DATABASE_URL to a place that this user may write to."
        ) from None
    writer = create_async_engine(url, pool_size=1, max_overflow=0, hide_parameters=True)
    reader = create_async_engine(
        url,
        pool_size=limits.pool_size,
        max_overflow=0,
        pool_timeout=limits.connect_seconds,
        hide_parameters=True,
    )
    embedded = create_engine(
        url.set(drivername="sqlite"), pool_size=1, max_overflow=0, hide_parameters=True
    )
    for engine in (writer.sync_engine, embedded):
        _configure_sqlite(engine, limits, begin="BEGIN IMMEDIATE", query_only=False)
    _configure_sqlite(reader.sync_engine, limits, begin="BEGIN", query_only=True)
    return Database(writer, reader, EmbeddedWriter(embedded))


def _configure_sqlite(
    engine: Engine, limits: DatabaseLimits, *, begin: str, query_only: bool
) -> None:
    """Set the pragmas, and take over transactions from the driver.

    The driver would begin transactions late and DEFERRED; a deferred one that wants to write
    fails at once when another is writing, whatever the busy timeout.
    """

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {round(limits.lock_seconds * 1000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        if query_only:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
