"""The writer: batches what queues, answers each, loses nothing when a client leaves."""

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from credits_service.core.errors import AccountsLockedError, LedgerUnavailableError
from credits_service.core.metrics import LedgerMetrics
from credits_service.ledger.batch import Command, Result
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import Charge
from credits_service.ledger.writer import DuplicateInFlightError, Writer


class GatedStore:
    """Holds every batch until the gate opens; refuses what is called poison."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.started = asyncio.Event()
        self.batches: list[list[str]] = []

    async def execute(self, commands: Sequence[Command]) -> list[Result]:
        names = [command.request_id for command in commands]
        self.batches.append(names)
        self.started.set()
        await self.gate.wait()
        if "gone" in names:
            raise LedgerUnavailableError
        if "locked" in names:
            raise AccountsLockedError(frozenset({names.index("locked")}))
        if "poison" in names:
            raise ZeroDivisionError
        return [Result(200, name.encode()) for name in names]


def _command(name: str, key: str | None = None) -> Command:
    return Command(
        Charge("ann", 1), "tester", name, None if key is None else IdempotencyKey("tester", key)
    )


def _writer(store: GatedStore, **options: float) -> Writer:
    writer = Writer(store, LedgerMetrics(CollectorRegistry()), **options)  # type: ignore[arg-type]  # ints among them
    writer.start()
    return writer


async def _submitted(writer: Writer, *names: str) -> list[asyncio.Task[Result]]:
    tasks = [asyncio.create_task(writer.submit(_command(name))) for name in names]
    await asyncio.sleep(0)
    return tasks


async def test_what_queues_while_a_batch_is_in_flight_is_the_next_batch() -> None:
    store = GatedStore()
    writer = _writer(store, max_batch=3)
    tasks = await _submitted(writer, "a")
    await store.started.wait()
    tasks += await _submitted(writer, "b", "c", "d", "e")
    store.gate.set()
    results = await asyncio.gather(*tasks)
    assert [result.body for result in results] == [b"a", b"b", b"c", b"d", b"e"]
    assert store.batches == [["a"], ["b", "c", "d"], ["e"]]
    await writer.close()


async def test_a_client_that_leaves_cancels_nothing() -> None:
    store = GatedStore()
    writer = _writer(store)
    (leaving,) = await _submitted(writer, "a")
    (queued, staying) = await _submitted(writer, "b", "c")
    await store.started.wait()
    leaving.cancel()
    queued.cancel()
    store.gate.set()
    assert (await staying).body == b"c"
    assert [name for batch in store.batches for name in batch] == ["a", "b", "c"]
    await writer.close()


async def test_a_failure_nobody_foresaw_hits_only_its_own_command() -> None:
    store = GatedStore()
    writer = _writer(store)
    tasks = await _submitted(writer, "a", "poison", "c")
    store.gate.set()
    first, poison, last = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(poison, ZeroDivisionError)
    assert first == Result(200, b"a")
    assert last == Result(200, b"c")
    await writer.close()


async def test_a_ledger_that_is_gone_fails_the_batch_and_not_the_writer() -> None:
    store = GatedStore()
    store.gate.set()
    writer = _writer(store)
    with pytest.raises(LedgerUnavailableError):
        await writer.submit(_command("gone"))
    assert (await writer.submit(_command("back"))).status == 200
    await writer.close()


async def test_closing_finishes_what_is_queued_and_takes_no_more() -> None:
    store = GatedStore()
    writer = _writer(store)
    tasks = await _submitted(writer, "a", "b")
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    with pytest.raises(LedgerUnavailableError):
        await writer.submit(_command("late"))
    store.gate.set()
    assert [result.status for result in await asyncio.gather(*tasks)] == [200, 200]
    await closing


async def test_a_full_queue_is_refused() -> None:
    store = GatedStore()
    writer = _writer(store, max_queue=1)
    tasks = await _submitted(writer, "a")
    await store.started.wait()
    tasks += await _submitted(writer, "b")
    with pytest.raises(LedgerUnavailableError):
        await writer.submit(_command("c"))
    store.gate.set()
    await asyncio.gather(*tasks)
    await writer.close()


async def test_a_duplicate_waits_for_the_first_and_gives_up_in_the_end() -> None:
    store = GatedStore()
    writer = _writer(store, duplicate_wait_seconds=0.01)
    first = asyncio.create_task(writer.submit(_command("a", "k")))
    await store.started.wait()
    with pytest.raises(DuplicateInFlightError):
        await writer.submit(_command("b", "k"))
    store.gate.set()
    assert (await first).body == b"a"
    assert (await writer.submit(_command("c", "k"))).body == b"c"
    await writer.close()


async def test_a_group_is_answered_one_by_one_in_its_order() -> None:
    store = GatedStore()
    store.gate.set()
    writer = _writer(store)
    group = [_command(name) for name in ("a", "poison", "c")]
    first, poison, last = await writer.submit_many(group)
    assert (first, last) == (Result(200, b"a"), Result(200, b"c"))
    assert isinstance(poison, ZeroDivisionError)
    assert store.batches[0] == ["a", "poison", "c"]
    assert await writer.submit_many([]) == []
    await writer.close()


async def test_two_of_a_group_with_one_key_stay_in_their_order() -> None:
    store = GatedStore()
    store.gate.set()
    writer = _writer(store)
    results = await writer.submit_many([_command("a", "k"), _command("b", "k")])
    assert results == [Result(200, b"a"), Result(200, b"b")]
    assert store.batches == [["a", "b"]]
    await writer.close()


async def test_one_of_a_group_waits_for_the_first_request_with_its_key() -> None:
    store = GatedStore()
    writer = _writer(store)
    first = asyncio.create_task(writer.submit(_command("a", "k")))
    await store.started.wait()
    group = asyncio.create_task(writer.submit_many([_command("b", "k"), _command("c")]))
    await asyncio.sleep(0)
    store.gate.set()
    assert await group == [Result(200, b"b"), Result(200, b"c")]
    assert (await first).body == b"a"
    assert store.batches == [["a"], ["c"], ["b"]]
    await writer.close()


async def test_one_of_a_group_gives_up_waiting_and_its_neighbours_do_not() -> None:
    store = GatedStore()
    writer = _writer(store, duplicate_wait_seconds=0.01)
    first = asyncio.create_task(writer.submit(_command("a", "k")))
    await store.started.wait()
    group = asyncio.create_task(writer.submit_many([_command("b", "k"), _command("c")]))
    await asyncio.wait({group}, timeout=0.1)
    store.gate.set()
    duplicate, neighbour = await group
    assert isinstance(duplicate, DuplicateInFlightError)
    assert neighbour == Result(200, b"c")
    await first
    await writer.close()


async def test_a_group_that_does_not_fit_is_refused_where_it_does_not() -> None:
    store = GatedStore()
    writer = _writer(store, max_queue=1)
    group = asyncio.create_task(writer.submit_many([_command("a"), _command("b")]))
    await store.started.wait()
    store.gate.set()
    first, second = await group
    assert first == Result(200, b"a")
    assert isinstance(second, LedgerUnavailableError)
    await writer.close()


async def test_a_client_that_leaves_its_group_cancels_nothing() -> None:
    store = GatedStore()
    writer = _writer(store)
    group = asyncio.create_task(writer.submit_many([_command("a"), _command("b")]))
    await store.started.wait()
    group.cancel()
    store.gate.set()
    assert (await writer.submit(_command("c"))).body == b"c"
    assert store.batches == [["a", "b"], ["c"]]
    await writer.close()


async def test_commands_on_a_locked_account_are_refused_and_their_neighbours_go_on() -> None:
    store = GatedStore()
    store.gate.set()
    writer = _writer(store)
    group = [_command(name) for name in ("a", "locked", "c")]
    first, locked, last = await writer.submit_many(group)
    assert (first, last) == (Result(200, b"a"), Result(200, b"c"))
    assert isinstance(locked, LedgerUnavailableError)
    assert store.batches == [["a", "locked", "c"], ["a", "c"]]
    await writer.close()


async def test_closing_refuses_what_a_silent_database_leaves_in_the_queue() -> None:
    store = GatedStore()
    writer = _writer(store, close_seconds=0.01)
    running = await _submitted(writer, "a")
    await store.started.wait()
    queued = await _submitted(writer, "b")
    closing = asyncio.create_task(writer.close())
    with pytest.raises(LedgerUnavailableError):
        await queued[0]
    store.gate.set()
    await closing
    assert (await running[0]).body == b"a"
    assert store.batches == [["a"]]
