"""The usage log of a process: in the background, bounded, and never in an answer's way."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import structlog

from ai_proxy_service.core.errors import ReceiptsUnavailableError
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.moments import MICROS_PER_SECOND, now_micros
from ai_proxy_service.core.usage_log import ChargeRecord, LateOutcome
from ai_proxy_service.services import usage_log
from ai_proxy_service.services.usage_database import open_usage_database
from ai_proxy_service.services.usage_log import FILE_NAME, QueuedUsageLog, open_usage_log
from ai_proxy_service.services.usage_store import UsageStore
from support.usage_logs import a_record

LONG_AGO = now_micros() - 10 * MICROS_PER_SECOND


class Store(UsageStore):
    """A real store that fails, or waits, when it is told to.

    Attributes:
        batches: how many records each write had.
        gate: writes wait until it is set.
        failed: is set once a write has failed.
        forgot: is set once something has been forgotten.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(open_usage_database("", path))
        self.broken = False
        self.batches: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failed = asyncio.Event()
        self.forgot = asyncio.Event()

    async def write(self, records: Sequence[ChargeRecord], late: Sequence[LateOutcome]) -> None:
        await self.gate.wait()
        if self.broken:
            self.failed.set()
            raise OSError("no space left")
        await super().write(records, late)
        self.batches.append(len(records))

    async def forget(self, before_micros: int, limit: int) -> int:
        number = await super().forget(before_micros, limit)
        if number:
            self.forgot.set()
        return number


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / FILE_NAME)


@pytest.fixture
async def log(
    store: Store, metrics: ProxyMetrics, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[QueuedUsageLog]:
    monkeypatch.setattr(usage_log, "RETRY_SECONDS_MIN", 0.001)
    log = QueuedUsageLog(store, metrics, retention_days=400)
    await log.open()
    yield log
    await log.aclose()


async def kept(path: Path) -> list[ChargeRecord]:
    """Return what another process finds in the file."""
    other = UsageStore(open_usage_database("", path))
    found = [record async for page in other.pages(0, 1 << 60) for record in page]
    await other.aclose()
    return found


def lost(metrics: ProxyMetrics) -> float:
    return metrics.readings().total("gateway_usage_log_lost_total")


async def test_what_was_noted_is_found_at_once(log: QueuedUsageLog) -> None:
    record = a_record()
    log.note(record)

    assert await log.find(record.completion_id, "ann") == [record]


async def test_what_queues_while_one_transaction_runs_is_the_next_one(
    log: QueuedUsageLog, store: Store
) -> None:
    store.gate.clear()
    first = a_record(ended_at_micros=LONG_AGO)
    log.note(first)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for _ in range(20):
        log.note(a_record(ended_at_micros=LONG_AGO))
    store.gate.set()

    assert await log.find(first.completion_id, "ann") == [first]
    assert sum(store.batches) == 21
    assert len(store.batches) <= 2


async def test_a_store_that_fails_for_a_while_loses_nothing(
    log: QueuedUsageLog, store: Store, metrics: ProxyMetrics
) -> None:
    store.broken = True
    records = [a_record(ended_at_micros=LONG_AGO) for _ in range(3)]
    with structlog.testing.capture_logs() as entries:
        log.note(records[0])
        await store.failed.wait()
        store.failed.clear()
        log.note(records[1])
        log.note(records[2])
        await store.failed.wait()
        store.broken = False
        assert await log.find(records[2].completion_id, "ann") == [records[2]]

    for record in records:
        assert await log.find(record.completion_id, "ann") == [record]
    assert lost(metrics) == 0
    assert [entry["event"] for entry in entries] == ["usage_log_failed"]
    assert metrics.readings().total("gateway_usage_log_waiting") == 0


async def test_memory_is_bounded_and_what_does_not_fit_is_counted_and_named(
    log: QueuedUsageLog, store: Store, metrics: ProxyMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_log, "QUEUED_MAX", 2)
    store.gate.clear()
    records = [a_record(completion_id=f"c-{place}") for place in range(3)]

    with structlog.testing.capture_logs() as entries:
        for record in records:
            log.note(record)
    store.gate.set()

    assert [(entry["event"], entry["completion_id"]) for entry in entries] == [
        ("usage_record_lost", "c-2")
    ]
    assert lost(metrics) == 1
    assert await log.find("c-1", "ann") == [records[1]]


async def test_a_count_that_no_database_holds_does_not_stop_the_others(
    log: QueuedUsageLog, metrics: ProxyMetrics
) -> None:
    log.note(a_record(exact_cost_pico=1 << 63))
    good = a_record(exact_cost_pico=(1 << 63) - 1)
    log.note(good)

    assert await log.find(good.completion_id, "ann") == [good]
    assert lost(metrics) == 1


async def test_what_waits_at_the_end_is_written(store: Store, tmp_path: Path) -> None:
    log = QueuedUsageLog(store, ProxyMetrics(), retention_days=400)
    await log.open()
    record = a_record()
    late = LateOutcome("c", 1, "charged")
    store.gate.clear()
    outcome = asyncio.create_task(log.note_outcome(late))
    log.note(record)
    await asyncio.sleep(0)
    store.gate.set()
    await log.aclose()
    await outcome

    assert await kept(tmp_path / FILE_NAME) == [record]


async def test_the_end_does_not_wait_for_a_store_that_is_broken(
    store: Store, metrics: ProxyMetrics
) -> None:
    log = QueuedUsageLog(store, metrics, retention_days=400)
    await log.open()
    store.broken = True
    log.note(a_record())

    await log.aclose()

    assert lost(metrics) == 1


async def test_a_late_outcome_is_kept_once_it_has_been_noted(
    log: QueuedUsageLog, tmp_path: Path
) -> None:
    """The settlement leaves the outbox after that, so that no kill can lose it."""
    log.note(a_record(completion_id="c", status="pending", charged_nanos=0, transaction_id=None))
    await log.note_outcome(LateOutcome("c", 1, "charged", 12_346, 0, "t-9"))

    (found,) = await kept(tmp_path / FILE_NAME)
    assert (found.status, found.transaction_id) == ("charged", "t-9")


async def test_a_broken_store_holds_up_no_settlement(log: QueuedUsageLog, store: Store) -> None:
    store.broken = True
    log.note(a_record())
    await store.failed.wait()
    await asyncio.sleep(0)

    async with asyncio.timeout(usage_log.FLUSH_SECONDS / 2):
        await log.note_outcome(LateOutcome("c", 1, "charged"))


async def test_what_another_process_is_about_to_write_is_waited_for(
    log: QueuedUsageLog, tmp_path: Path
) -> None:
    record = a_record(ended_at_micros=LONG_AGO)
    asking = asyncio.create_task(log.find(record.completion_id, "ann"))
    await asyncio.sleep(0)
    other = await open_usage_log("", tmp_path, metrics=ProxyMetrics(), retention_days=0)
    other.note(record)
    await other.aclose()

    assert await asking == [record]


async def test_records_older_than_the_retention_are_forgotten(
    store: Store, metrics: ProxyMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_log, "PRUNE_EVERY_SECONDS", 0)
    day_micros = 24 * 3600 * MICROS_PER_SECOND
    old = a_record(ended_at_micros=now_micros() - 31 * day_micros)
    young = a_record(ended_at_micros=now_micros() - 29 * day_micros)
    log = QueuedUsageLog(store, metrics, retention_days=30)
    await log.open()
    log.note(old)
    log.note(young)
    assert await log.find(young.completion_id, "ann") == [young]

    await asyncio.wait_for(store.forgot.wait(), 30)
    assert await log.find(old.completion_id, "ann") == []
    assert await log.find(young.completion_id, "ann") == [young]
    await log.aclose()


async def test_a_store_that_can_not_be_read_is_said(
    log: QueuedUsageLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_asked_id: str, _name: str) -> list[ChargeRecord]:
        raise OSError("gone")

    monkeypatch.setattr(store, "find", fail)
    with pytest.raises(ReceiptsUnavailableError) as caught:
        await log.find("c", "ann")

    assert (caught.value.status, caught.value.headers["retry-after"]) == (503, "2")


async def test_a_server_that_is_away_at_the_start_stops_nothing(metrics: ProxyMetrics) -> None:
    """Nothing listens on port 1."""
    with structlog.testing.capture_logs() as entries:
        log = await open_usage_log(
            "postgresql://nobody:secret@127.0.0.1:1/none",
            Path("unused"),
            metrics=metrics,
            retention_days=400,
        )
    log.note(a_record())
    await log.aclose()

    assert entries[0]["event"] == "usage_log_failed"
    assert "secret" not in str(entries)
    assert lost(metrics) == 1
