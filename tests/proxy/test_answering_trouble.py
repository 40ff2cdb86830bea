"""Answers whose store fails, whose process died, or that nobody reads: no charge unmarked."""

import asyncio
from typing import Any

import pytest
import structlog

from ai_proxy_service.core import answer_reports, answering
from ai_proxy_service.core.answers import KeyEntry, KeyReport, KeyState
from ai_proxy_service.core.errors import (
    AnswerBrokeOffError,
    AnswerNotKeptError,
    AnswersUnavailableError,
)
from ai_proxy_service.core.recording import Recording
from ai_proxy_service.services.answer_stores import MemoryAnswerStore
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
from support.answer_stores import new_name

WAIT_SECONDS_MAX = 30


class HangingStore(MemoryAnswerStore):
    """A store whose calls take their time.

    Attributes:
        going: lets them come to their end.
        asked: is set once one waits for that.
    """

    timeout_seconds = 600.0

    def __init__(self) -> None:
        super().__init__()
        self.going = asyncio.Event()
        self.going.set()
        self.asked = asyncio.Event()

    async def _wait(self) -> None:
        if not self.going.is_set():
            self.asked.set()
            await self.going.wait()

    async def claim(self, *args: Any) -> KeyEntry:
        await self._wait()
        return await super().claim(*args)

    async def report(self, *args: Any) -> bool:
        await self._wait()
        return await super().report(*args)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that fails is soon asked again, and soon given up by who may not go on without."""
    monkeypatch.setattr(answering, "STORE_FAILS_SECONDS_MAX", 0.1)
    for module in (answering, answer_reports):
        monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(answering, "BEAT_SECONDS", 0.01)


@pytest.mark.usefixtures("hasty")
async def test_a_charge_waits_for_its_mark(process: Process) -> None:
    store, name, script = WatchedStore(), new_name(), Script()
    await process(store).find(name, PRINT, script.run)
    store.broken = True
    charging = asyncio.create_task(script.recordings[0].before_charge())
    await store.failed.wait()
    assert not charging.done()

    store.broken = False
    await charging

    assert (await state(store, name)).charged


@pytest.mark.usefixtures("hasty")
async def test_a_charge_of_a_run_that_has_ended_is_marked_once_the_store_can_again(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made meanwhile; but nobody may take its key for one that cost nothing."""
    monkeypatch.setattr(answer_reports, "MARK_SECONDS_MAX", 0.05)
    store, name, script = WatchedStore(), new_name(), Script()
    found = await process(store).find(name, PRINT, script.run)
    store.broken = True
    with pytest.raises(AnswersUnavailableError):
        await read(found)
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        await script.recordings[0].before_charge()
    store.broken = False

    await store.until(name, lambda entry: entry.charged)
    with pytest.raises(AnswerNotKeptError) as caught:
        await process(store).find(name, PRINT, Script().run)
    assert caught.value.code == "idempotency_answer_lost"


async def test_the_end_of_the_process_does_not_wait_for_long_for_a_mark(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_reports, "MARK_SECONDS_MAX", 0.01)
    monkeypatch.setattr(answer_reports, "RETRY_SECONDS", 0.01)
    store, script = WatchedStore(), Script()
    answers = process(store)
    await answers.find(new_name(), PRINT, script.run)
    store.broken = True
    await script.recordings[0].before_charge()

    with structlog.testing.capture_logs() as entries:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await answers.aclose(0)
            # What the relay settles after that.
            await script.recordings[0].before_charge()

    assert {entry["event"] for entry in entries} == {"answer_not_kept"}
    assert not any(entry["marked"] for entry in entries)


async def test_a_charge_under_a_key_that_is_answered_by_another_is_logged_once(
    process: Process,
) -> None:
    store, name, script = MemoryAnswerStore(), new_name(), Script(WHOLE)
    answers = process(store)
    finding = asyncio.create_task(answers.find(name, PRINT, script.run))
    await script.begun.wait()
    await store.drop(name, script.recordings[0].token)
    with structlog.testing.capture_logs() as entries:
        await script.recordings[0].before_charge()

    assert [entry["event"] for entry in entries] == ["answer_key_taken"]
    finding.cancel()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("charged", [True, False])
async def test_the_key_of_a_stream_whose_process_died_is_freed_by_who_has_read_its_half(
    process: Process, *, charged: bool
) -> None:
    store, name, script = MemoryAnswerStore(), new_name(), Script()
    script.going.set()
    await store.claim(name, PRINT, b"dead", None)
    await store.report(name, b"dead", KeyReport(0, [STREAM.encode(), b"half"], charged=charged))
    found = await process(store).find(name, PRINT, script.run)
    assert await found.reader.receive() == [b"half"]
    with pytest.raises(AnswerBrokeOffError):
        await found.reader.receive()

    if charged:
        with pytest.raises(AnswerNotKeptError) as caught:
            await process(store).find(name, PRINT, script.run)
        assert caught.value.code == "idempotency_answer_lost"
        assert script.recordings == []
    else:
        assert name not in store._kept
        again = await process(store).find(name, PRINT, script.run)
        assert await read(again) == b"first last"


async def test_an_answer_of_which_the_store_has_lost_the_text_is_not_waited_for(
    process: Process,
) -> None:
    """As a Redis does that evicts."""
    store, name, script = WatchedStore(), new_name(), Script()
    script.going.set()
    await read(await process(store).find(name, PRINT, script.run))
    await store.until(name, lambda entry: entry.state is KeyState.DONE)
    store._kept[name].pieces.clear()
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        with pytest.raises(AnswerNotKeptError) as caught:
            await process(store).find(name, PRINT, script.run)

    assert caught.value.code == "idempotency_answer_lost"


@pytest.mark.usefixtures("hasty")
async def test_a_run_whose_store_hangs_is_stopped_without_waiting_for_it(
    process: Process,
) -> None:
    store, script = HangingStore(), Script()
    found = await process(store).find(new_name(), PRINT, script.run)
    store.going.clear()

    async with asyncio.timeout(WAIT_SECONDS_MAX):
        with pytest.raises(AnswersUnavailableError):
            await read(found)
    assert script.stopped
    store.going.set()


@pytest.mark.usefixtures("hasty")
async def test_a_run_whose_report_has_failed_does_not_wait_for_its_next_beat(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, script = WatchedStore(), Script(WHOLE)
    finding = asyncio.create_task(process(store).find(new_name(), PRINT, script.run))
    await script.begun.wait()
    store.broken = True
    await store.failed.wait()
    monkeypatch.setattr(answering, "BEAT_SECONDS", 600)

    async with asyncio.timeout(WAIT_SECONDS_MAX):
        with pytest.raises(AnswersUnavailableError):
            await finding
    assert script.stopped


async def test_of_answers_that_nobody_reads_only_so_many_go_on(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "UNREAD_MAX", 2)
    answers = process(MemoryAnswerStore())
    names = [new_name() for _ in range(4)]
    scripts = [Script() for _ in names]
    found = [
        await answers.find(name, PRINT, script.run)
        for name, script in zip(names, scripts, strict=True)
    ]
    joined = await answers.find(names[2], PRINT, scripts[2].run)
    with structlog.testing.capture_logs() as entries:
        for each in found:
            each.reader.close()
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            with pytest.raises(AnswersUnavailableError):
                await read(found[3])
    for script in scripts:
        script.going.set()

    assert await read(joined) == b"first last"
    assert await read(await answers.find(names[0], PRINT, Script().run)) == b"first last"
    assert [script.stopped for script in scripts] == [False, False, False, True]
    assert [entry["event"] for entry in entries] == ["answer_stopped"]


async def test_who_leaves_while_a_key_is_asked_for_does_not_keep_it(process: Process) -> None:
    store, name, script = HangingStore(), new_name(), Script()
    answers = process(store)
    store.going.clear()
    finding = asyncio.create_task(answers.find(name, PRINT, script.run))
    await store.asked.wait()
    finding.cancel()
    await asyncio.wait({finding})
    script.going.set()
    store.going.set()

    assert await read(await answers.find(name, PRINT, script.run)) == b"first last"


async def test_an_answer_that_stops_short_is_not_told_as_if_it_were_whole(
    process: Process,
) -> None:
    async def run(recording: Recording) -> bool:
        recording.begin(STREAM)
        await recording.put(b"half")
        return False

    found = await process(MemoryAnswerStore()).find(new_name(), PRINT, run)

    with pytest.raises(AnswerBrokeOffError):
        await read(found)
