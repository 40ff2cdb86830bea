"""One answer for each key: joined while it runs, read again afterwards, and never made twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from ai_proxy_service.core import answer_reports, answering, kept_answers, recording
from ai_proxy_service.core.answering import Answers
from ai_proxy_service.core.answers import KeyReport, KeyState
from ai_proxy_service.core.errors import (
    AnswerBrokeOffError,
    AnswerNotKeptError,
    AnswersUnavailableError,
    InsufficientCreditError,
    KeyReusedError,
)
from ai_proxy_service.core.recording import AnswerHead, Recording
from ai_proxy_service.services.answer_stores import MemoryAnswerStore, open_answer_store
from support.answer_runs import (
    PRINT,
    STREAM,
    WHOLE,
    Process,
    Script,
    WatchedStore,
    read,
    state,
)
from support.answer_stores import SHARED_KINDS, new_name, store_uri


@pytest.fixture(params=["one process", *SHARED_KINDS])
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path, process: Process
) -> AsyncIterator[tuple[Answers, Answers]]:
    """Who answers first, and who is asked again: the same process, or two with a store."""
    if request.param == "one process":
        answers = process(MemoryAnswerStore())
        yield answers, answers
        await answers.aclose(0)
        return
    uri = store_uri(request.param)
    stores = [await open_answer_store(uri, tmp_path) for _ in range(2)]
    first, again = map(process, stores)
    yield first, again
    for answers, store in zip((first, again), stores, strict=True):
        await answers.aclose(0)
        await store.aclose()


@pytest.mark.parametrize("head", [STREAM, WHOLE])
async def test_who_asks_while_it_runs_joins_and_who_asks_later_reads_it_again(
    pair: tuple[Answers, Answers], head: AnswerHead
) -> None:
    one, other = pair
    name, script, second = new_name(), Script(head), Script()
    first = asyncio.create_task(one.find(name, PRINT, script.run))
    await script.begun.wait()
    joined = asyncio.create_task(other.find(name, PRINT, second.run))
    if head.streamed:
        # Its beginning can be read before its end is there.
        assert await (await joined).reader.receive() == [b"first "]
    script.going.set()
    found = [await first, await joined]

    assert [each.repeated for each in found] == [False, True]
    expected = b"first last" if head.streamed else b"last"
    assert await read(found[0]) == expected
    assert (await read(found[1])) == expected.removeprefix(b"first ")
    again = await other.find(name, PRINT, second.run)
    assert again.repeated
    assert again.reader.head == head
    assert await read(again) == expected
    assert len(script.recordings) == 1
    assert second.recordings == []


async def test_another_request_under_the_same_key_is_refused_whenever_it_comes(
    pair: tuple[Answers, Answers],
) -> None:
    one, other = pair
    name, script = new_name(), Script()
    found = await one.find(name, PRINT, script.run)
    with pytest.raises(KeyReusedError):
        await other.find(name, b"another", Script().run)
    script.going.set()
    await read(found)
    with pytest.raises(KeyReusedError):
        await other.find(name, b"another", Script().run)


async def test_what_cost_nothing_is_tried_again_by_those_who_waited(
    pair: tuple[Answers, Answers],
) -> None:
    one, other = pair
    refusal = InsufficientCreditError("no credit")
    name, script, second = new_name(), Script(charged=False, error=refusal), Script()
    first = asyncio.create_task(one.find(name, PRINT, script.run))
    await script.begun.wait()
    waiting = asyncio.create_task(other.find(name, PRINT, second.run))
    script.going.set()

    with pytest.raises(InsufficientCreditError):
        await first
    found = await waiting
    second.going.set()

    assert not found.repeated
    assert await read(found) == b"first last"


async def test_an_answer_goes_on_without_readers_and_is_there_for_those_who_come(
    pair: tuple[Answers, Answers],
) -> None:
    one, other = pair
    name, script = new_name(), Script()
    found = await one.find(name, PRINT, script.run)
    found.reader.close()
    script.going.set()

    assert await read(await other.find(name, PRINT, Script().run)) == b"first last"


@pytest.mark.usefixtures("impatient")
async def test_a_run_that_was_silent_is_replaced_by_exactly_one(process: Process) -> None:
    """Its process was killed, before anything was charged."""
    store, name, script = MemoryAnswerStore(), new_name(), Script()
    await store.claim(name, PRINT, b"dead", None)
    processes = [process(store) for _ in range(5)]

    finding = [asyncio.create_task(each.find(name, PRINT, script.run)) for each in processes]
    await script.begun.wait()
    script.going.set()
    answers = [await read(await each) for each in finding]

    assert answers == [b"first last"] * 5
    assert len(script.recordings) == 1


@pytest.mark.usefixtures("impatient")
async def test_a_run_that_may_have_been_charged_is_never_replaced(process: Process) -> None:
    store, name = MemoryAnswerStore(), new_name()
    await store.claim(name, PRINT, b"dead", None)
    await store.report(name, b"dead", KeyReport(charged=True))
    script = Script()

    for _ in range(2):
        with pytest.raises(AnswerNotKeptError) as caught:
            await process(store).find(name, PRINT, script.run)
        assert caught.value.code == "idempotency_answer_lost"
    assert script.recordings == []


@pytest.mark.usefixtures("impatient")
async def test_who_follows_a_run_that_dies_is_told_so(process: Process) -> None:
    store, name = MemoryAnswerStore(), new_name()
    await store.claim(name, PRINT, b"dying", None)
    await store.report(name, b"dying", KeyReport(0, [STREAM.encode(), b"half"]))
    found = await process(store).find(name, PRINT, Script().run)

    assert await found.reader.receive() == [b"half"]
    with pytest.raises(AnswerBrokeOffError):
        await found.reader.receive()


async def test_a_run_that_lives_is_not_taken_for_dead_however_long_it_has_nothing_to_say(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(answering, "REPORT_PAUSE_SECONDS", 0.01)
    store, name, script, second = WatchedStore(), new_name(), Script(WHOLE), Script()
    first = asyncio.create_task(process(store).find(name, PRINT, script.run))
    await script.begun.wait()
    waiting = asyncio.create_task(process(store).find(name, PRINT, second.run))
    begun = (await state(store, name)).beat
    await store.until(name, lambda entry: entry.beat > begun + 5)
    assert not waiting.done()
    script.going.set()
    assert await read(await first) == await read(await waiting) == b"last"
    assert second.recordings == []


async def test_a_run_whose_key_was_taken_over_stops(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that two don't run for one key: its process had stood still for too long."""
    monkeypatch.setattr(answering, "BEAT_SECONDS", 0.01)
    store, name, script = MemoryAnswerStore(), new_name(), Script()
    with structlog.testing.capture_logs() as entries:
        found = await process(store).find(name, PRINT, script.run)
        await store.drop(name, script.recordings[0].token)
        await found.reader.receive()
        with pytest.raises(AnswersUnavailableError):
            await found.reader.receive()

    assert script.stopped
    assert script.recordings[0].lost
    assert "answer_lost" in [entry["event"] for entry in entries]


async def test_a_run_that_cannot_report_stops_before_it_can_be_taken_for_dead(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept_answers.STORE_FAILS_SECONDS_MAX < kept_answers.SILENCE_SECONDS_MAX
    monkeypatch.setattr("ai_proxy_service.core.answering.STORE_FAILS_SECONDS_MAX", 0.1)
    monkeypatch.setattr(answering, "BEAT_SECONDS", 0.01)
    store, name, script = WatchedStore(), new_name(), Script()
    found = await process(store).find(name, PRINT, script.run)
    store.broken = True

    await found.reader.receive()
    with pytest.raises(AnswersUnavailableError):
        await found.reader.receive()
    assert script.stopped


async def test_a_store_that_fails_for_a_moment_is_no_ones_trouble(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_reports, "MARK_SECONDS_MAX", 0.01)
    store, name, script = WatchedStore(), new_name(), Script()
    answers = process(store)
    with structlog.testing.capture_logs() as entries:
        found = await answers.find(name, PRINT, script.run)
        store.broken = True
        script.going.set()
        assert await read(found) == b"first last"
        await store.failed.wait()
        store.broken = False
        await store.until(name, lambda entry: entry.state is KeyState.DONE)
        assert await read(await process(store).find(name, PRINT, Script().run)) == b"first last"

    events = [entry["event"] for entry in entries]
    assert events == ["answer_store_unavailable", "answer_store_available"]


async def test_nothing_is_made_for_a_key_while_the_store_fails(process: Process) -> None:
    store, script = WatchedStore(), Script()
    store.broken = True

    with pytest.raises(AnswersUnavailableError) as caught:
        await process(store).find(new_name(), PRINT, script.run)

    assert caught.value.headers["retry-after"]
    assert script.recordings == []


async def test_an_answer_that_is_too_large_is_read_but_not_kept(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "ANSWER_BYTES_MAX", 100)
    store, name = MemoryAnswerStore(), new_name()
    answers = process(store)

    async def run(recording: Recording) -> bool:
        recording.begin(STREAM)
        for number in range(10):
            await recording.put(bytes([number]) * 50)
        await recording.before_charge()
        recording.complete = True
        return True

    found = await answers.find(name, PRINT, run)
    assert await read(found) == b"".join(bytes([number]) * 50 for number in range(10))
    for each in (answers, process(store)):
        with pytest.raises(AnswerNotKeptError) as caught:
            await each.find(name, PRINT, Script().run)
        assert caught.value.code == "idempotency_answer_too_large"


async def test_a_large_answer_takes_no_more_memory_than_its_slowest_reader_leaves(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "ANSWER_BYTES_MAX", 100)
    recordings: list[Recording] = []

    async def run(recording: Recording) -> bool:
        recordings.append(recording)
        recording.begin(STREAM)
        for _ in range(100):
            await recording.put(b"x" * 60)
        recording.complete = True
        return True

    found = await process(MemoryAnswerStore()).find(new_name(), PRINT, run)
    weight_bytes = 0
    while pieces := await found.reader.receive():
        held = sum(map(len, recordings[0]._pieces))
        assert held <= 160
        weight_bytes += sum(map(len, pieces))
    assert weight_bytes == 6000


async def test_a_reader_that_reads_nothing_slows_no_other(process: Process) -> None:
    answers, name, script = process(MemoryAnswerStore()), new_name(), Script()
    slow = await answers.find(name, PRINT, script.run)
    quick = await answers.find(name, PRINT, script.run)
    script.going.set()

    assert await read(quick) == b"first last"
    assert await read(slow) == b"first last"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("charged", [True, False])
async def test_what_ends_in_the_middle_with_the_process_is_lost_if_it_was_charged(
    process: Process, *, charged: bool
) -> None:
    """The charge is made after its end, by the relay."""
    store, name, script, again = MemoryAnswerStore(), new_name(), Script(), Script()
    again.going.set()
    answers = process(store)
    found = await answers.find(name, PRINT, script.run)
    await answers.aclose(0)
    if charged:
        await script.recordings[0].before_charge()

    await found.reader.receive()
    with pytest.raises(Exception, match="shutting down"):
        await found.reader.receive()
    if charged:
        with pytest.raises(AnswerNotKeptError):
            await process(store).find(name, PRINT, again.run)
    else:
        assert await read(await process(store).find(name, PRINT, again.run)) == b"first last"


async def test_the_end_of_the_process_waits_for_answers_for_a_while(process: Process) -> None:
    store, name, script = MemoryAnswerStore(), new_name(), Script()
    answers = process(store)
    await answers.find(name, PRINT, script.run)
    closing = asyncio.create_task(answers.aclose(30))
    await asyncio.sleep(0)
    script.going.set()
    await closing

    assert (await state(store, name)).state is KeyState.DONE


async def test_what_fails_unexpectedly_is_not_made_again_while_its_charge_may_be_on_the_way(
    process: Process,
) -> None:
    store, name = MemoryAnswerStore(), new_name()
    script = Script(charged=False, error=ZeroDivisionError())
    script.going.set()
    with (
        structlog.testing.capture_logs() as entries,
        pytest.raises(Exception, match="had an error"),
    ):
        await process(store).find(name, PRINT, script.run)

    entry = await state(store, name)
    assert (entry.token, entry.state) == (script.recordings[0].token, KeyState.RUNNING)
    assert [each["event"] for each in entries] == ["answer_failed"]
