"""How stores that processes share are reached: a SQLite file, or Redis."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import aiosqlite

from service_kit.sqlite_wal import use_wal

if TYPE_CHECKING:
    from redis.asyncio import Redis

REDIS_CONNECTIONS_MAX = 32
FILE_OPEN_SECONDS = 10.0


async def open_sqlite(
    path: Path, schema: str, *, synchronous: Literal["NORMAL", "FULL"], timeout_seconds: float
) -> aiosqlite.Connection:
    """Open or make a file that several processes may share; each statement is a transaction.

    Args:
        path: where it is.
        schema: statements that make what is not there yet.
        synchronous: `FULL` if what was written must survive a power cut.
        timeout_seconds: how long a statement waits for other processes.

    Raises:
        OSError: the folder can't be made.
        sqlite3.Error: the file can't be opened or written.
    """
    await asyncio.to_thread(_make_file, path)
    database = await aiosqlite.connect(path, isolation_level=None, timeout=FILE_OPEN_SECONDS)
    try:
        await database.execute(f"PRAGMA synchronous={synchronous}")
        await database.executescript(schema)
        await database.execute(f"PRAGMA busy_timeout={timeout_seconds * 1000:.0f}")
    except BaseException:
        await database.close()
        raise
    return database


def _make_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=FILE_OPEN_SECONDS)) as connection:
        use_wal(connection, timeout_seconds=FILE_OPEN_SECONDS)


def connect_redis(uri: str, *, timeout_seconds: float) -> "Redis":
    """Make a client of Redis or Valkey; it connects once it is needed.

    Args:
        uri: ``redis://…`` or ``valkey://…``.
        timeout_seconds: how long a connection, or an answer, is worth waiting for.

    Raises:
        ValueError: the address is not one.
    """
    # Only where it is used: 9 MB, and a tenth of the start.
    from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415 - see above
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.exceptions import ConnectionError as RedisConnectionError  # noqa: PLC0415

    pool = BlockingConnectionPool.from_url(
        _redis_url(uri),
        max_connections=REDIS_CONNECTIONS_MAX,
        timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        # Once more, at once, where the connection was lost: after a restart of the server each
        # one of the pool is, and this client (8.1) does not look. More would hold a request.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
    return Redis.from_pool(pool)


def _redis_url(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    scheme = scheme.replace("valkey", "redis")
    return f"{'unix' if scheme == 'redis+unix' else scheme}://{rest}"
