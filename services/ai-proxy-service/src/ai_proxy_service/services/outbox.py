"""Settlements that could not be delivered, kept on disk until they are.

An answer is never held back because the credits service is down: its charge is written
here first, and delivered later under the same idempotency key, so that it is booked once
however often it is sent.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

import aiosqlite
from prometheus_client import Counter, Gauge

from ai_proxy_service.core.errors import BillingUnavailableError
from ai_proxy_service.services.store_connections import open_sqlite
from service_kit.logging import get_logger

_log = get_logger(__name__)

BATCH = 100
FILE_TIMEOUT_SECONDS = 10.0
RETRY_SECONDS_MIN = 0.5
RETRY_SECONDS_MAX = 30.0
# After so many failures in a row it is the ledger that is away, not one settlement.
FAILURES_IN_A_ROW_MAX = 3
_SCHEMA = """
CREATE TABLE IF NOT EXISTS settlements (
    key TEXT PRIMARY KEY,
    body BLOB NOT NULL,
    created_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at REAL NOT NULL,
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

    def __init__(
        self, database: aiosqlite.Connection, waiting: Gauge, oldest: Gauge, failed: Counter
    ) -> None:
        self._database = database
        self._waiting = waiting
        self._oldest = oldest
        self._failed = failed
        self._filled = asyncio.Event()
        self.emptied = asyncio.Event()

    @classmethod
    async def open(cls, path: Path, *, waiting: Gauge, oldest: Gauge, failed: Counter) -> Self:
        """Open or make the file; what an earlier process left in it is delivered first.

        Raises:
            OSError: the folder can't be made.
            sqlite3.Error: the file can't be opened or written.
        """
        # A settlement that was accepted must survive a power cut.
        database = await open_sqlite(
            path, _SCHEMA, synchronous="FULL", timeout_seconds=FILE_TIMEOUT_SECONDS
        )
        outbox = cls(database, waiting, oldest, failed)
        await outbox.count()
        outbox._filled.set()
        return outbox

    async def put(self, key: str, body: bytes) -> None:
        """Keep a settlement; returns once it is on disk."""
        now = time.time()
        await self._database.execute(
            "INSERT INTO settlements (key, body, created_at, next_at) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (key) DO NOTHING",
            (key, body, now, now + RETRY_SECONDS_MIN),
        )
        await self.count()
        _log.warning("settlement_kept_for_later", key=key)
        self._filled.set()

    async def count(self) -> int:
        """Return how many settlements wait."""
        query = "SELECT count(*), min(created_at) FROM settlements WHERE refused IS NULL"
        ((waiting, oldest),) = await self._rows(query)
        self._waiting.set(waiting)
        self._oldest.set(oldest or 0)
        if waiting:
            self.emptied.clear()
        else:
            self.emptied.set()
        return int(waiting)

    async def _scalar(self, query: str) -> float:
        rows = await self._rows(query)
        value = next(iter(rows))[0]
        return 0 if value is None else float(value)

    async def _rows(self, query: str, values: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        # In one step: a read that is still open while another process writes would make the next
        # write on this connection fail at once, whatever its time-out.
        return list(await self._database.execute_fetchall(query, values))

    async def deliver_all(self, deliver: Deliver) -> None:
        """Deliver what waits, now and whenever more comes; runs until it is cancelled."""
        while True:
            try:
                await self._deliver_due(deliver)
                pause_seconds = await self._pause_seconds()
            except Exception:  # noqa: BLE001 - a disk that is full for a moment must not end it
                _log.exception("outbox_failed")
                pause_seconds = RETRY_SECONDS_MAX
            # Not `wait_for`: before Python 3.12 it overlooks a cancellation in the moment in which
            # something comes, and whoever stops this would wait for ever.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await self._filled.wait()
            self._filled.clear()

    async def _pause_seconds(self) -> float:
        """Return how long nothing is due; at most a while, as other processes fill it too."""
        next_at = await self._scalar("SELECT min(next_at) FROM settlements WHERE refused IS NULL")
        wait_seconds = next_at - time.time() if next_at else RETRY_SECONDS_MAX
        return min(max(wait_seconds, RETRY_SECONDS_MIN / 10), RETRY_SECONDS_MAX)

    async def _deliver_due(self, deliver: Deliver) -> None:
        query = (
            "SELECT key, body, attempts FROM settlements WHERE refused IS NULL AND next_at <= ? "
            "ORDER BY next_at LIMIT ?"
        )
        rows = await self._rows(query, (time.time(), BATCH))
        failures = 0
        for key, body, attempts in rows:
            try:
                await deliver(key, body)
            except PermanentRefusalError as refusal:
                await self._set_aside(key, str(refusal))
            except Exception as error:  # noqa: BLE001 - one that fails must not stop the others
                await self._put_off(key, attempts + 1, error)
                failures += 1
                if failures == FAILURES_IN_A_ROW_MAX:
                    break
            else:
                failures = 0
                await self._database.execute("DELETE FROM settlements WHERE key = ?", (key,))
                _log.info("settlement_delivered_late", key=key)
        if rows:
            await self.count()

    async def _put_off(self, key: str, attempts: int, error: Exception) -> None:
        pause_seconds = min(RETRY_SECONDS_MIN * 2**attempts, RETRY_SECONDS_MAX)
        await self._database.execute(
            "UPDATE settlements SET attempts = ?, next_at = ? WHERE key = ?",
            (attempts, time.time() + pause_seconds, key),
        )
        if not isinstance(error, BillingUnavailableError):
            _log.error("settlement_failed", key=key, error=f"{type(error).__name__}: {error}")

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
