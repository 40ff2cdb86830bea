"""Settlements that could not be delivered, kept on disk until they are.

An answer is never held back because the credits service is down: its charge is written
here first, and delivered later under the same idempotency key, so that it is booked once
however often it is sent.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

import aiosqlite
from prometheus_client import Counter, Gauge

from ai_proxy_service.core.errors import BillingUnavailableError
from service_kit.logging import get_logger

_log = get_logger(__name__)

BATCH = 100
RETRY_SECONDS_MIN = 0.5
RETRY_SECONDS_MAX = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS settlements (
    key TEXT PRIMARY KEY,
    body BLOB NOT NULL,
    created_at REAL NOT NULL,
    refused TEXT
) STRICT
"""

Deliver = Callable[[str, bytes], Awaitable[None]]


class PermanentRefusalError(Exception):
    """The credits service will never accept a settlement; an operator must look at it."""


class Outbox:
    """A durable queue in one SQLite file. Several processes may share it.

    Attributes:
        emptied: set while nothing waits.
    """

    def __init__(self, database: aiosqlite.Connection, waiting: Gauge, failed: Counter) -> None:
        self._database = database
        self._waiting = waiting
        self._failed = failed
        self._filled = asyncio.Event()
        self.emptied = asyncio.Event()

    @classmethod
    async def open(cls, path: Path, *, waiting: Gauge, failed: Counter) -> Self:
        """Open or make the file; what an earlier process left in it is delivered first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        database = await aiosqlite.connect(path, isolation_level=None, timeout=10)
        await database.execute("PRAGMA journal_mode=WAL")
        # A settlement that was accepted must survive a power cut.
        await database.execute("PRAGMA synchronous=FULL")
        await database.execute(_SCHEMA)
        outbox = cls(database, waiting, failed)
        if await outbox.count():
            outbox._filled.set()
        return outbox

    async def put(self, key: str, body: bytes) -> None:
        """Keep a settlement; returns once it is on disk."""
        await self._database.execute(
            "INSERT INTO settlements (key, body, created_at) VALUES (?, ?, ?) "
            "ON CONFLICT (key) DO NOTHING",
            (key, body, time.time()),
        )
        await self.count()
        _log.warning("settlement_kept_for_later", key=key)
        self._filled.set()

    async def count(self) -> int:
        """Return how many settlements wait."""
        query = "SELECT count(*) FROM settlements WHERE refused IS NULL"
        async with self._database.execute(query) as cursor:
            row = await cursor.fetchone()
        waiting = int(row[0]) if row else 0
        self._waiting.set(waiting)
        if waiting:
            self.emptied.clear()
        else:
            self.emptied.set()
        return waiting

    async def deliver_all(self, deliver: Deliver) -> None:
        """Deliver what waits, now and whenever more comes; runs until it is cancelled."""
        pause_seconds = RETRY_SECONDS_MIN
        while True:
            # Looked at now and then besides: another process may have left something here.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._filled.wait(), RETRY_SECONDS_MAX)
            self._filled.clear()
            try:
                while await self._deliver_batch(deliver):
                    pass
                pause_seconds = RETRY_SECONDS_MIN
            except Exception as error:  # noqa: BLE001 - a charge must not be stuck for any reason
                if not isinstance(error, BillingUnavailableError):
                    _log.error("outbox_failed", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, RETRY_SECONDS_MAX)
                self._filled.set()

    async def _deliver_batch(self, deliver: Deliver) -> bool:
        query = (
            "SELECT key, body FROM settlements WHERE refused IS NULL ORDER BY created_at LIMIT ?"
        )
        async with self._database.execute(query, (BATCH,)) as cursor:
            rows = list(await cursor.fetchall())
        for key, body in rows:
            try:
                await deliver(key, body)
            except PermanentRefusalError as refusal:
                await self._set_aside(key, str(refusal))
            else:
                await self._database.execute("DELETE FROM settlements WHERE key = ?", (key,))
                _log.info("settlement_delivered_late", key=key)
        await self.count()
        return bool(rows)

    async def _set_aside(self, key: str, reason: str) -> None:
        """Keep what was refused for good where an operator finds it."""
        self._failed.inc()
        _log.error("settlement_refused", key=key, reason=reason)
        await self._database.execute(
            "UPDATE settlements SET refused = ? WHERE key = ?", (reason, key)
        )

    async def aclose(self) -> None:
        """Close the file."""
        await self._database.close()
