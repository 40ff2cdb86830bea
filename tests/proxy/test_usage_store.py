"""The usage log's records in SQLite and PostgreSQL: kept once, found, listed, forgotten."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ai_proxy_service.core.moments import now_micros
from ai_proxy_service.core.usage_log import ChargeRecord, LateOutcome
from ai_proxy_service.services import usage_store
from ai_proxy_service.services.usage_database import open_usage_database
from ai_proxy_service.services.usage_store import UsageStore
from support.databases import postgres_database, require_postgres
from support.ledgers import ENGINES
from support.usage_logs import a_record


@pytest.fixture(params=ENGINES)
def usage_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    require_postgres()
    with postgres_database() as url:
        yield url


@pytest.fixture
async def store(usage_url: str, tmp_path: Path) -> AsyncIterator[UsageStore]:
    store = UsageStore(open_usage_database(usage_url, tmp_path / "usage.sqlite3"))
    await store.prepare()
    yield store
    await store.aclose()


async def listed(store: UsageStore, from_micros: int = 0, to_micros: int = 1 << 60) -> list[str]:
    return [
        record.billing_key async for page in store.pages(from_micros, to_micros) for record in page
    ]


async def test_a_record_comes_back_as_it_was_written(store: UsageStore) -> None:
    written = a_record(hold_id=None, transaction_id=None, status="free", estimated=True)

    await store.write([written], [])

    assert await store.find(written.completion_id, "tester") == [written]
    assert await store.find(written.request_id, "ann") == [written]


async def test_a_record_that_is_written_again_stays_as_it_is(store: UsageStore) -> None:
    """A commit whose answer was lost is made again."""
    first = a_record()
    second = a_record(completion_id=first.completion_id, attempt=2)

    await store.write([first], [])
    await store.write([first, second], [])

    assert await store.find(first.completion_id, "ann") == [first, second]


@pytest.mark.parametrize("record_first", [True, False])
async def test_a_late_outcome_completes_the_record_whichever_comes_first(
    store: UsageStore, *, record_first: bool
) -> None:
    pending = a_record(status="pending", charged_nanos=0, transaction_id=None)
    late = LateOutcome(pending.completion_id, 1, "charged", 12_000, 346, "t-9")
    if record_first:
        await store.write([pending], [])
    await store.write([], [late])
    await store.write([pending], [])
    # Delivered once more: the process was killed before it noted that it had been.
    await store.write([], [late])

    (found,) = await store.find(pending.completion_id, "ann")

    assert (found.status, found.transaction_id) == ("charged", "t-9")
    assert (found.charged_nanos, found.shortfall_nanos) == (12_000, 346)
    assert found.amount_nanos == pending.amount_nanos


async def test_only_who_asked_or_pays_finds_a_record(store: UsageStore) -> None:
    record = a_record(account="ann", key_name="tester")
    await store.write([record], [])

    for asked_id in (record.completion_id, record.request_id):
        assert await store.find(asked_id, "ann") == [record]
        assert await store.find(asked_id, "tester") == [record]
        assert await store.find(asked_id, "bob") == []
    assert await store.find("chatcmpl-unknown", "ann") == []


async def test_an_answer_is_found_whole_by_any_of_its_ids(store: UsageStore) -> None:
    """Of several prompts, and of a first attempt that could not be used."""
    first = a_record(completion_id="cmpl-1", request_id="req-1")
    second = a_record(completion_id="cmpl-1.2", request_id="req-1")
    again = a_record(completion_id="cmpl-1.2", attempt=2, request_id="req-1")
    other = a_record(completion_id="cmpl-10", request_id="req-2")
    await store.write([first, second, again, other], [])

    for asked_id in ("cmpl-1", "cmpl-1.2", "req-1"):
        found = await store.find(asked_id, "ann")
        assert sorted(record.billing_key for record in found) == [
            "cmpl-1",
            "cmpl-1.2",
            "cmpl-1.2-2",
        ]


async def test_of_a_request_id_that_was_used_again_the_latest_answer_is_found(
    store: UsageStore,
) -> None:
    now = now_micros()
    newer = a_record(request_id="mine", ended_at_micros=now)
    older = a_record(request_id="mine", ended_at_micros=now - 1)
    strangers = a_record(request_id="mine", ended_at_micros=now + 1, account="bob", key_name="b")
    await store.write([newer, older, strangers], [])

    assert await store.find("mine", "ann") == [newer]


async def test_a_period_is_listed_in_order_page_by_page(
    store: UsageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From is in it and to is not; what ended in one moment is neither left out nor repeated."""
    monkeypatch.setattr(usage_store, "_PAGE", 3)
    records = [
        a_record(completion_id=f"chatcmpl-{number:02}", ended_at_micros=100 + number // 4)
        for number in range(20)
    ]
    await store.write(records[::-1], [])

    assert await listed(store) == [record.completion_id for record in records]
    assert await listed(store, 101, 103) == [f"chatcmpl-{number:02}" for number in range(4, 12)]
    assert await store.count(101, 103) == 8
    assert await listed(store, 200) == []


async def test_only_what_is_old_is_forgotten_and_in_small_pieces(store: UsageStore) -> None:
    old = [a_record(completion_id=f"c-{age}", ended_at_micros=age) for age in range(5)]
    late = [
        LateOutcome(record.completion_id, 1, "charged", at_micros=record.ended_at_micros)
        for record in old
    ]
    await store.write(old, late)

    assert await store.forget(4, 3) == 6
    assert await listed(store) == ["c-3", "c-4"]
    assert await store.forget(4, 3) == 2
    assert await store.forget(4, 3) == 0
    assert await listed(store) == ["c-4"]


async def test_processes_that_start_at_once_make_the_tables_once(
    usage_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "usage.sqlite3"
    stores = [UsageStore(open_usage_database(usage_url, path)) for _ in range(8)]

    await asyncio.gather(*(store.prepare() for store in stores))
    records = [a_record() for _ in stores]
    await asyncio.gather(
        *(store.write([record], []) for store, record in zip(stores, records, strict=True))
    )

    found: list[list[ChargeRecord]] = [
        await stores[0].find(record.completion_id, "ann") for record in records
    ]
    assert found == [[record] for record in records]
    for store in stores:
        await store.aclose()
