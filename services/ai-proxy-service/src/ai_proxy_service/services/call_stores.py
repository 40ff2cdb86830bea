"""Where the call memory keeps its values: this process, a file, or Redis.

All are bounded: in time everywhere, in number and size where no operator has set a limit.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import aiosqlite

from ai_proxy_service.services.store_connections import connect_redis, open_sqlite

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")

EXPIRE_SECONDS = 24 * 3600
CALLS_MAX = 100_000
STORED_BYTES_MAX = 256 * 1024 * 1024
REDIS_TIMEOUT_SECONDS = 0.25
FILE_TIMEOUT_SECONDS = 1.0
# A conversation's calls are one question; only a flood of them is several.
_BATCH = 500
_PRUNE_EVERY = 256
_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    kept_at REAL NOT NULL,
    value BLOB NOT NULL
) STRICT
"""


class CallStore(Protocol):
    """Keeps values by key for a while. Any method may fail with any exception."""

    @property
    def timeout_seconds(self) -> float:
        """How long an answer is worth waiting for."""

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of the keys that are known."""

    async def put(self, values: Mapping[bytes, bytes]) -> None:
        """Keep values until they expire."""

    async def aclose(self) -> None:
        """Let go of what is held."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept, and how long.

    Attributes:
        calls: the most values.
        stored_bytes: the most that they weigh together.
        seconds: how long each is kept.
    """

    calls: int = CALLS_MAX
    stored_bytes: int = STORED_BYTES_MAX
    seconds: float = EXPIRE_SECONDS


class MemoryCallStore:
    """Keeps values in this process; what was not asked for longest goes first."""

    timeout_seconds = 1.0

    def __init__(
        self, bounds: Bounds = Bounds(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bounds = bounds
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._stored_bytes = 0

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """See `CallStore`."""
        oldest = self._clock() - self._bounds.seconds
        found: dict[bytes, bytes] = {}
        for key in keys:
            entry = self._kept.get(key)
            if entry is None:
                continue
            kept_at, value = entry
            if kept_at < oldest:
                self._drop(key)
            else:
                self._kept.move_to_end(key)
                found[key] = value
        return found

    async def put(self, values: Mapping[bytes, bytes]) -> None:
        """See `CallStore`."""
        now = self._clock()
        for key, value in values.items():
            if key in self._kept:
                self._drop(key)
            self._kept[key] = (now, value)
            self._stored_bytes += len(value)
        while (
            len(self._kept) > self._bounds.calls or self._stored_bytes > self._bounds.stored_bytes
        ):
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        _, value = self._kept.pop(key)
        self._stored_bytes -= len(value)

    async def aclose(self) -> None:
        """See `CallStore`."""
        self._kept.clear()


class SqliteCallStore:
    """Keeps values in one SQLite file, which several processes may share."""

    timeout_seconds = FILE_TIMEOUT_SECONDS

    def __init__(
        self, database: aiosqlite.Connection, bounds: Bounds, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._bounds = bounds
        self._clock = clock
        self._prune_every = max(1, min(_PRUNE_EVERY, bounds.calls // 10))
        self._put_since = 0

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        bounds: Bounds = Bounds(),
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Open or make the file.

        Raises:
            OSError: the folder can't be made.
            sqlite3.Error: the file can't be opened or written.
        """
        # The last moments may be lost with the power; the file itself stays whole.
        database = await open_sqlite(
            path, _SCHEMA, synchronous="NORMAL", timeout_seconds=FILE_TIMEOUT_SECONDS
        )
        return cls(database, bounds, clock)

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """See `CallStore`."""
        oldest = self._clock() - self._bounds.seconds
        found: dict[bytes, bytes] = {}
        for batch in _batches(keys):
            marks = ",".join("?" * len(batch))
            query = f"SELECT key, value FROM calls WHERE key IN ({marks}) AND kept_at >= ?"  # noqa: S608 - marks only
            # In one go: with a statement half read on this connection, a write of another of its
            # users would not wait for other processes, but fail.
            rows = await self._database.execute_fetchall(query, (*batch, oldest))
            found.update((row[0], row[1]) for row in rows)
        return found

    async def put(self, values: Mapping[bytes, bytes]) -> None:
        """See `CallStore`."""
        now = self._clock()
        for batch in _batches(list(values.items())):
            # One statement, so that it is one transaction, whoever else uses the connection.
            rows = ",".join(["(?, ?, ?)"] * len(batch))
            query = f"INSERT OR REPLACE INTO calls (key, value, kept_at) VALUES {rows}"  # noqa: S608 - marks only
            fields = [field for key, value in batch for field in (key, value, now)]
            await self._database.execute(query, fields)
        self._put_since += len(values)
        if self._put_since >= self._prune_every:
            written, self._put_since = self._put_since, 0
            await self._prune(written)

    async def _prune(self, written: int) -> None:
        """Drop some of the oldest values, more than were written, if there are too many.

        Ids are given in the order of time, and what is written again has a new one: the span of
        ids is never less than the number of values, and takes no counting.
        """
        newest = await self._number("SELECT max(id) FROM calls")
        used_bytes = await self._number(
            "SELECT (page_count - freelist_count) * page_size "
            "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        is_heavy = used_bytes > self._bounds.stored_bytes
        too_many = newest - (min(written, self._bounds.calls) if is_heavy else self._bounds.calls)
        too_old = self._clock() - self._bounds.seconds
        await self._database.execute(
            "DELETE FROM calls WHERE id IN "
            "(SELECT id FROM (SELECT id, kept_at FROM calls ORDER BY id LIMIT ?) "
            "WHERE kept_at < ? OR id <= ?)",
            (2 * written, too_old, too_many),
        )

    async def _number(self, query: str) -> int:
        (row,) = await self._database.execute_fetchall(query)
        return int(row[0] or 0)

    async def aclose(self) -> None:
        """See `CallStore`."""
        await self._database.close()


class RedisCallStore:
    """Keeps values in Redis, or in Valkey, which speaks its protocol.

    How much they may weigh together is for Redis to say (``maxmemory``).
    """

    timeout_seconds = REDIS_TIMEOUT_SECONDS

    def __init__(self, client: "Redis") -> None:
        self._client = client

    @classmethod
    def connect(cls, uri: str) -> Self:
        """Make a client; it connects once it is needed.

        Raises:
            ValueError: the address is not one.
        """
        return cls(connect_redis(uri, timeout_seconds=REDIS_TIMEOUT_SECONDS))

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """See `CallStore`."""
        found: dict[bytes, bytes] = {}
        for batch in _batches(keys):
            values = await self._client.mget([_redis_key(key) for key in batch])
            found.update(
                (key, value)
                for key, value in zip(batch, values, strict=True)
                if isinstance(value, bytes)
            )
        return found

    async def put(self, values: Mapping[bytes, bytes]) -> None:
        """See `CallStore`."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for key, value in values.items():
                pipeline.set(_redis_key(key), value, ex=EXPIRE_SECONDS)
            await pipeline.execute()

    async def aclose(self) -> None:
        """See `CallStore`."""
        await self._client.aclose()


def _redis_key(key: bytes) -> bytes:
    return b"ai-proxy:call:" + key


def _batches(items: Sequence[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
