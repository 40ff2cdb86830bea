"""Where the usage log is kept: a SQLite file, or PostgreSQL.

The work of a transaction is written once, in SQLAlchemy's synchronous form, for both.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError

from service_kit.sqlite_wal import use_wal

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

# Nobody's answer waits for these, but what is queued in memory does.
TIMEOUT_SECONDS = 10.0
CONNECT_SECONDS = 5.0
_LOCK_SECONDS = 5.0
# One for the writer, one for receipts, one for what a slow statement may hold.
_CONNECTIONS = 3
# How a transaction on SQLite begins; a reader that later wants to write could not wait.
_BEGIN = "usage_log_begin"


class UsageDatabase(Protocol):
    """Runs transactions."""

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run the work of one transaction.

        Raises:
            SQLAlchemyError, OSError, TimeoutError: it failed; whether it was committed may be
                unknown.
        """

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run work that only reads; it keeps no writer waiting.

        Raises:
            SQLAlchemyError, OSError, TimeoutError: it failed.
        """

    async def aclose(self) -> None:
        """Close all connections."""


class SqliteUsageDatabase:
    """One file, which the workers of a machine share.

    A whole transaction runs in a thread: through an async driver each of its statements would
    cross between threads twice, which costs more than the statement.
    """

    def __init__(self, path: Path) -> None:
        self._engine = _sqlite_engine(path)
        self._thread = ThreadPoolExecutor(1, "usage-log")

    async def run(self, work: Callable[[Connection], T]) -> T:
        """See `UsageDatabase`."""
        return await self._in_thread(work, "BEGIN IMMEDIATE")

    async def read(self, work: Callable[[Connection], T]) -> T:
        """See `UsageDatabase`."""
        return await self._in_thread(work, "BEGIN")

    async def _in_thread(self, work: Callable[[Connection], T], begin: str) -> T:
        def run() -> T:
            with self._engine.connect() as connection:
                connection.execution_options(**{_BEGIN: begin})
                with connection.begin():
                    return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def aclose(self) -> None:
        """See `UsageDatabase`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()


def _sqlite_engine(path: Path) -> Engine:
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, pool_size=1, max_overflow=0, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: object) -> None:
        # The driver would begin transactions late, and as readers, which can't wait for a lock.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {round(_LOCK_SECONDS * 1000)}")
        use_wal(cursor, timeout_seconds=_LOCK_SECONDS)
        # The last moments may be lost with the power; the file itself stays whole.
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options()[_BEGIN])

    return engine


class PostgresUsageDatabase:
    """A database that machines share; it connects once it is needed."""

    def __init__(self, url: str) -> None:
        self._engine = _postgres_engine(url)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """See `UsageDatabase`."""
        async with asyncio.timeout(TIMEOUT_SECONDS), self._engine.begin() as connection:
            return await connection.run_sync(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """See `UsageDatabase`."""
        return await self.run(work)

    async def aclose(self) -> None:
        """See `UsageDatabase`."""
        await self._engine.dispose()


def _postgres_engine(url: str) -> "AsyncEngine":
    # Only where they are used: 9 MB, and a tenth of the start.
    import asyncpg  # noqa: PLC0415 - see above
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    # asyncpg reads all of the URL, several servers and TLS included.
    plain = url.replace("postgresql+asyncpg://", "postgresql://", 1)

    async def connect() -> Any:
        return await asyncpg.connect(
            plain,
            timeout=CONNECT_SECONDS,
            command_timeout=TIMEOUT_SECONDS,
            server_settings={"application_name": "ai-proxy-usage-log"},
        )

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "checkout", _replace_closed_connection)
    return engine


def _replace_closed_connection(connection: Any, _record: object, _proxy: object) -> None:
    """Let the pool open another connection if the server has closed this one meanwhile."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def open_usage_database(url: str, path: Path) -> UsageDatabase:
    """Return the database that the settings name; nothing connects yet.

    Args:
        url: of PostgreSQL; empty for the file.
        path: of the file.
    """
    return PostgresUsageDatabase(url) if url else SqliteUsageDatabase(path)
