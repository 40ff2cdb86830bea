"""Connections: one configuration of each engine, safe for money.

SQLite: WAL, synchronous=FULL, writers begin IMMEDIATE, readers on connections of their own.
PostgreSQL: READ COMMITTED, with limits on how long a lock or a statement may take.
"""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from credits_service.core.errors import ConfigurationError
from credits_service.db.failures import drop_useless_connection, leaves_connection_useless
from credits_service.db.limits import AUDIT_STATEMENT_SECONDS, DatabaseLimits
from credits_service.db.postgresql import assert_replicated, postgresql_engine
from service_kit.sqlite_wal import use_wal

__all__ = [
    "POSTGRESQL_DRIVER",
    "SQLITE_DRIVER",
    "Database",
    "DatabaseLimits",
    "EmbeddedWriter",
    "database_url",
    "open_database",
    "shown_url",
    "sqlite_file",
]

T = TypeVar("T")

SQLITE_DRIVER = "sqlite+aiosqlite"
POSTGRESQL_DRIVER = "postgresql+asyncpg"
# One for the batch in flight, one to replace it at once should it break, and one each for
# retention, the webhook outbox, changes of issued keys and notes of their use, which may write at
# the same time: no batch waits for them.
_WRITER_CONNECTIONS = 6
# Opened when somebody audits the ledger.
_AUDITOR_CONNECTIONS = 2
_DRIVERS = {
    "sqlite": SQLITE_DRIVER,
    SQLITE_DRIVER: SQLITE_DRIVER,
    "postgres": POSTGRESQL_DRIVER,
    "postgresql": POSTGRESQL_DRIVER,
    POSTGRESQL_DRIVER: POSTGRESQL_DRIVER,
}
# scheme://user:password@ and, with at least one comma, host:port,host:port
_SEVERAL_SERVERS = re.compile(r"(?P<start>[\w+]+://(?:[^/@?]*@)?)(?P<servers>[^/?@]*,[^/?@]*)")
_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<port>\d{1,5}))?")
_POSTGRESQL_PORT = "5432"


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
        auditor: for reading a whole ledger; its statements may take long, and readers do not
            wait for its connections.
        embedded: how batches are written if the ledger is an SQLite file.
    """

    writer: AsyncEngine
    reader: AsyncEngine
    auditor: AsyncEngine
    embedded: EmbeddedWriter | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether the ledger is the embedded one."""
        return self.writer.dialect.name == "sqlite"

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run the work of one transaction on a connection of the writer's.

        The work is written in SQLAlchemy's synchronous form, and commits by itself.

        Raises:
            UnreplicatedCommitError: it is committed, but its synchronous standby is silent.
        """
        if self.embedded is not None:
            return await self.embedded.run(work)
        async with self.writer.connect() as connection:
            try:
                answer = await connection.run_sync(work)
            except Exception as error:
                # What the work asked the driver itself, SQLAlchemy has not heard of.
                if leaves_connection_useless(error):
                    await connection.invalidate()
                raise
            await assert_replicated(connection)
            return answer

    async def close(self) -> None:
        """Close all connections."""
        if self.embedded is not None:
            await self.embedded.close()
        await self.writer.dispose()
        await self.reader.dispose()
        await self.auditor.dispose()


def database_url(text: str) -> URL:
    """Parse a `DATABASE_URL` and choose its async driver.

    Several servers, one of which can be written to, are named as in libpq:
    `postgresql://user:password@first:5432,second:5432/name`. The URL that comes out has each
    of them as a `host` in its query, which is SQLAlchemy's way to write them.

    Raises:
        ConfigurationError: not a URL, or of a database that is not supported.
    """
    several = _SEVERAL_SERVERS.match(text)
    try:
        url = make_url(text if several is None else several["start"] + text[several.end() :])
        hosts = url.query.get("host", ()) if several is None else several["servers"].split(",")
        if not isinstance(hosts, str) and hosts:
            url = url.update_query_pairs([("host", _server(host)) for host in hosts])
        if "@" in (url.host or ""):
            raise ValueError  # noqa: TRY301 - the rest of a password, which would be shown as host
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "DATABASE_URL is not a database URL. Use postgresql://user:password@host:5432/name, "
            "for several servers postgresql://user:password@first:5432,second:5432/name, or leave "
            "it empty for an embedded ledger under DATA_DIR. Write special characters of a "
            "password as %XX, for example @ as %40."
        ) from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise ConfigurationError(
            f"DATABASE_URL names {url.drivername!r}, which is not supported. Use "
            "postgresql://user:password@host:5432/name, or leave it empty for SQLite."
        )
    return url.set(drivername=driver)


def _server(text: str) -> str:
    found = _SERVER.fullmatch(text)
    if found is None or text.startswith("/"):
        raise ValueError(text)
    return f"{found['host']}:{found['port'] or _POSTGRESQL_PORT}"


def shown_url(url: URL) -> str:
    """Write a URL without its password, which may also stand in its query."""
    hosts = url.query.get("host", ())
    shown = url.set(query={})
    if isinstance(hosts, tuple) and hosts:
        return shown.set(host=",".join(hosts)).render_as_string().replace("[", "").replace("]", "")
    return shown.render_as_string()


def open_database(url: URL, limits: DatabaseLimits) -> Database:
    """Make the engines; nothing connects yet.

    Raises:
        ConfigurationError: the folder of an SQLite file can't be made.
    """
    if url.drivername == SQLITE_DRIVER:
        return _open_sqlite(url, limits)
    # The writer only ever looks rows up by their keys. A plan that was cached while a table was
    # small would scan it for ever, so scanning is not offered; nor is the bitmap of a whole index.
    writer_settings = {"enable_seqscan": "off", "enable_bitmapscan": "off", "jit": "off"}
    return Database(
        writer=postgresql_engine(
            url,
            limits,
            pool_size=_WRITER_CONNECTIONS,
            isolation_level="READ COMMITTED",
            settings=writer_settings,
        ),
        # What a reader puts together from several tables must be of one moment.
        reader=postgresql_engine(
            url,
            limits,
            pool_size=limits.pool_size,
            isolation_level="REPEATABLE READ",
            settings={},
        ),
        auditor=postgresql_engine(
            url,
            replace(limits, statement_seconds=AUDIT_STATEMENT_SECONDS),
            pool_size=_AUDITOR_CONNECTIONS,
            isolation_level="REPEATABLE READ",
            settings={},
        ),
    )


def sqlite_file(url: URL) -> Path:
    """Return the file of an SQLite ledger, whose folder is made if need be.

    Raises:
        ConfigurationError: it is in memory, or its folder can't be made.
    """
    if not url.database or url.database == ":memory:":
        raise ConfigurationError(
            "DATABASE_URL must name a file: an SQLite ledger in memory would be lost at the end."
        )
    file = Path(url.database)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The folder {file.parent} for the ledger can't be made ({error.strerror}). Set "
            "DATA_DIR or DATABASE_URL to a place that this user may write to."
        ) from None
    return file


def _open_sqlite(url: URL, limits: DatabaseLimits) -> Database:
    sqlite_file(url)
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
    # Nothing limits how long a statement takes here.
    return Database(writer, reader, reader, EmbeddedWriter(embedded))


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
        use_wal(cursor, timeout_seconds=limits.lock_seconds)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        if query_only:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    event.listen(engine, "handle_error", drop_useless_connection)

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
