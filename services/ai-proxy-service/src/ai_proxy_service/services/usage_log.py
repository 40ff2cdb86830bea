"""The usage log of one process: what is noted here is written in the background.

No answer waits for it. A store that fails costs memory, up to a bound, then records: those are
counted, and named in the process's own log.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections import deque
from itertools import islice
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from ai_proxy_service.core.errors import ReceiptsUnavailableError
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.moments import MICROS_PER_SECOND, now_micros
from ai_proxy_service.core.money import usd_text
from ai_proxy_service.core.usage_log import ChargeRecord, LateOutcome
from ai_proxy_service.services.usage_database import open_usage_database
from ai_proxy_service.services.usage_store import UsageStore
from service_kit.logging import get_logger

_log = get_logger(__name__)

FILE_NAME = "usage.sqlite3"
QUEUED_MAX = 20_000
_BATCH_MAX = 1_000
# What a BIGINT holds. Only a broken Gemini reports more.
_PICO_MAX = 2**63 - 1
RETRY_SECONDS_MIN = 0.25
RETRY_SECONDS_MAX = 15.0
# How long one who asks for what was noted just now waits for it to be written.
FLUSH_SECONDS = 2.0
# At the end of the process: what can't be written in this time is lost.
CLOSE_SECONDS = 5.0
# Another process may be about to write what is asked for.
_FIND_PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.4)
# What is younger than this may have a second charge that is still being written.
_FRESH_MICROS = MICROS_PER_SECOND
PRUNE_EVERY_SECONDS = 60.0
_PRUNE_AGAIN_SECONDS = 1.0
_PRUNE_ROWS = 2_000
_DAY_MICROS = 24 * 3600 * MICROS_PER_SECOND


class QueuedUsageLog:
    """The `UsageLog`, and its `Receipts`, over a store.

    Args:
        store: where the records are kept.
        metrics: where it is counted what waits and what is lost.
        retention_days: how long records are kept; 0 for ever.
    """

    def __init__(self, store: UsageStore, metrics: ProxyMetrics, *, retention_days: int) -> None:
        self._store = store
        self._metrics = metrics
        self._retention_micros = retention_days * _DAY_MICROS
        self._records: deque[ChargeRecord] = deque()
        self._late: deque[LateOutcome] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._prepared = False
        self._failing = False
        self._prune_at = time.monotonic()
        self._writer: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Make the tables, and begin to write.

        Raises:
            SQLAlchemyError, OSError, TimeoutError: the store can't be used now; what is noted
                meanwhile is written once it can.
        """
        try:
            await self._prepare()
        finally:
            self._writer = asyncio.create_task(self._write_all(), name="usage-log")

    async def _prepare(self) -> None:
        if not self._prepared:
            await self._store.prepare()
            self._prepared = True

    def note(self, record: ChargeRecord) -> None:
        """See `UsageLog`."""
        if len(self._records) >= QUEUED_MAX or record.exact_cost_pico > _PICO_MAX:
            self._lose(record)
            return
        self._records.append(record)
        self._fill()

    async def note_outcome(self, outcome: LateOutcome) -> None:
        """See `UsageLog`."""
        if len(self._late) >= QUEUED_MAX:
            self._lose(outcome)
            return
        self._late.append(outcome)
        self._fill()
        # A log that fails must not hold up the settlements behind this one.
        if not self._failing:
            await self._flushed()

    def _fill(self) -> None:
        self._filled.set()
        self._emptied.clear()

    async def _flushed(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._emptied.wait()

    def _lose(self, lost: ChargeRecord | LateOutcome) -> None:
        self._metrics.usage_log_lost.inc()
        _log.error(
            "usage_record_lost",
            completion_id=lost.completion_id,
            attempt=lost.attempt,
            status=lost.status,
            charged_usd=usd_text(lost.charged_nanos),
            transaction_id=lost.transaction_id,
        )

    async def _write_all(self) -> None:
        pause_seconds = RETRY_SECONDS_MIN
        while True:
            await self._something_to_do()
            try:
                await self._write_some()
                await self._prune()
            except Exception as error:  # noqa: BLE001 - whatever a database's client raises
                self.note_failure(error)
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, RETRY_SECONDS_MAX)
            else:
                self._failing = False
                pause_seconds = RETRY_SECONDS_MIN

    async def _something_to_do(self) -> None:
        if not self._filled.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0, self._prune_at - time.monotonic())):
                    await self._filled.wait()

    async def _write_some(self) -> None:
        """Write what has queued, in one transaction; more may queue meanwhile."""
        await self._prepare()
        records = list(islice(self._records, _BATCH_MAX))
        late = list(islice(self._late, _BATCH_MAX))
        if records or late:
            await self._store.write(records, late)
            # Only now: what fails is written again.
            for _ in records:
                self._records.popleft()
            for _ in late:
                self._late.popleft()
        if not self._records and not self._late:
            self._filled.clear()
            self._emptied.set()
        self._metrics.usage_log_waiting.set(len(self._records) + len(self._late))

    async def _prune(self) -> None:
        if not self._retention_micros or time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_EVERY_SECONDS
        if await self._store.forget(now_micros() - self._retention_micros, _PRUNE_ROWS):
            self._prune_at = time.monotonic() + _PRUNE_AGAIN_SECONDS

    def note_failure(self, error: Exception) -> None:
        """Say, once, that the store can't be written."""
        self._metrics.usage_log_waiting.set(len(self._records) + len(self._late))
        if not self._failing:
            self._failing = True
            _log.error(
                "usage_log_failed",
                error=f"{type(error).__name__}: {error}",
                consequence="answers and charges go on; their records wait in memory",
            )

    async def find(
        self, asked_id: str, name: str, account: str | None = None
    ) -> list[ChargeRecord]:
        """See `Receipts`."""
        await self._flushed()
        before: list[ChargeRecord] = []
        for pause_seconds in (*_FIND_PAUSES_SECONDS, 0):
            try:
                found = await self._store.find(asked_id, name, account)
            except Exception as error:
                _log.warning("usage_log_not_read", error=f"{type(error).__name__}: {error}")
                raise ReceiptsUnavailableError from error
            if found and (found == before or not _is_fresh(found)):
                return found
            before = found
            await asyncio.sleep(pause_seconds)
        return before

    async def aclose(self) -> None:
        """Write what is left, and close the store."""
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._records or self._late:
                    await self._write_some()
        except Exception as error:  # noqa: BLE001 - see above
            self.note_failure(error)
        for record in self._records:
            self._lose(record)
        for outcome in self._late:
            self._lose(outcome)
        await self._store.aclose()


def _is_fresh(records: list[ChargeRecord]) -> bool:
    latest_micros = max(record.ended_at_micros for record in records)
    return now_micros() - latest_micros < _FRESH_MICROS


async def open_usage_log(
    url: str, data_dir: Path, *, metrics: ProxyMetrics, retention_days: int
) -> QueuedUsageLog:
    """Open the log that the settings name. A server that is away may come back later.

    Args:
        url: of PostgreSQL, for machines that share the log; empty for a file that the workers
            of one machine share.
        data_dir: where the file is.
        metrics: where it is counted what waits and what is lost.
        retention_days: how long records are kept; 0 for ever.

    Raises:
        OSError: the folder can't be made.
        sqlite3.Error: the file can't be opened or written.
    """
    path = data_dir / FILE_NAME
    if not url:
        path.parent.mkdir(parents=True, exist_ok=True)
    log = QueuedUsageLog(
        UsageStore(open_usage_database(url, path)), metrics, retention_days=retention_days
    )
    try:
        await log.open()
    except Exception as error:
        if url:
            log.note_failure(error)
            return log
        await log.aclose()
        if isinstance(error, DBAPIError) and isinstance(error.orig, sqlite3.Error):
            raise error.orig from error
        raise
    return log
