"""One answer for each idempotency key: made once, and read by all who ask for it."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from ai_proxy_service.core.answer_reports import RETRY_SECONDS, AnswerReports
from ai_proxy_service.core.answers import AnswerStore, KeyEntry, KeyState
from ai_proxy_service.core.errors import (
    AnswerBrokeOffError,
    AnswersUnavailableError,
    KeyReusedError,
)
from ai_proxy_service.core.kept_answers import (
    STORE_FAILS_SECONDS_MAX,
    CheckedStore,
    KeptReader,
    new_token,
    not_kept,
)
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.recording import AnswerReader, Recording, RecordingReader
from service_kit.access_log import note, wait_for
from service_kit.drain import ShuttingDownError
from service_kit.errors import ServiceError, internal_error
from service_kit.logging import get_logger

_log = get_logger(__name__)

# How often a run that has nothing new says that it lives.
BEAT_SECONDS = 3.0
# The least time between two reports of one run: what comes meanwhile is kept together.
REPORT_PAUSE_SECONDS = 0.05
# So many answers that nobody reads go on to their end; one more is stopped.
UNREAD_MAX = 512

# Makes an answer into a recording; returns whether all that it may cost has been charged.
Run = Callable[[Recording], Coroutine[Any, Any, bool]]


@dataclass(frozen=True, slots=True)
class FoundAnswer:
    """The answer to a request with a key.

    Attributes:
        reader: reads it from its beginning.
        repeated: it is another request's.
    """

    reader: AnswerReader
    repeated: bool


class Answers:
    """Finds the answer for each key, or has it made.

    Args:
        store: what processes know in common of keys and answers.
        metrics: where requests with a key are counted.
    """

    def __init__(self, store: AnswerStore, metrics: ProxyMetrics) -> None:
        self._store = CheckedStore(store)
        self._reports = AnswerReports(self._store)
        self._metrics = metrics
        self._running: dict[bytes, Recording] = {}
        self._runs: set[asyncio.Task[bool]] = set()
        self._lives: set[asyncio.Task[None]] = set()

    async def find(self, name: bytes, fingerprint: bytes, run: Run) -> FoundAnswer:
        """Return the answer for a key once it has begun; have it made if there is none.

        Args:
            name: of the key, its owner's only.
            fingerprint: of the request.
            run: makes the answer.

        Raises:
            KeyReusedError: the key belongs to another request.
            AnswerNotKeptError: it was answered and charged, but the answer can't be shown.
            AnswersUnavailableError: it could not be found out.
            ServiceError: whatever `run` raised, if it was to make the answer.
        """
        stale = None
        while True:
            recording = self._running.get(name)
            if recording is not None:
                joined = await self._join(recording, fingerprint)
                if joined is not None:
                    return self._found(joined, repeated=True)
                continue
            token = new_token()
            entry = await self._claim(name, fingerprint, token, stale)
            if entry.token == token:
                recording = Recording(name, fingerprint, token, self._reports.mark, self._left)
                return self._found(await self._begin(recording, run), repeated=False)
            if entry.fingerprint != fingerprint:
                raise KeyReusedError
            kept = KeptReader(self._store, name, entry)
            if await kept.begins():
                return self._found(kept, repeated=True)
            stale = kept.entry if kept.silent else None

    def _found(self, reader: AnswerReader, *, repeated: bool) -> FoundAnswer:
        self._metrics.idempotent.labels("repeated" if repeated else "first").inc()
        note(replayed=repeated)
        return FoundAnswer(reader, repeated)

    async def _claim(
        self, name: bytes, fingerprint: bytes, token: bytes, stale: KeyEntry | None
    ) -> KeyEntry:
        """Ask for a key; who stops waiting for it leaves it to others."""
        claim = self._store.ask(self._store.store.claim(name, fingerprint, token, stale))
        claiming = asyncio.create_task(claim)
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            self._start(self._unclaim(claiming, name, token), "unclaim")
            raise

    async def _unclaim(self, claiming: asyncio.Task[KeyEntry], name: bytes, token: bytes) -> None:
        with contextlib.suppress(AnswersUnavailableError):
            await claiming
        await self._drop(name, token)

    async def _drop(self, name: bytes, token: bytes) -> None:
        with contextlib.suppress(AnswersUnavailableError):
            await self._store.ask(self._store.store.drop(name, token))

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        life = asyncio.create_task(work, name=name)
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)

    def _left(self, recording: Recording) -> None:
        """Stop an answer that nobody reads any more, if too many go on like that."""
        if sum(each.unread for each in self._running.values()) > UNREAD_MAX:
            _log.warning(
                "answer_stopped", unread_max=UNREAD_MAX, consequence="what it used is charged"
            )
            recording.stop()

    async def _join(self, recording: Recording, fingerprint: bytes) -> RecordingReader | None:
        """Return a reader of what runs in this process; None if it cost nothing, and is gone."""
        if recording.fingerprint != fingerprint:
            raise KeyReusedError
        if recording.too_large:
            raise not_kept(KeyState.TOO_LARGE)
        reader = await _begun(recording.reader())
        if reader is not None:
            return reader
        if recording.error is not None and (recording.charged or recording.lost):
            raise recording.error
        return None

    async def _begin(self, recording: Recording, run: Run) -> RecordingReader:
        """Have an answer made, in tasks of its own, and return its first reader."""
        self._running[recording.name] = recording
        first = recording.reader()
        self._start(self._live(recording, run), "answer")
        reader = await _begun(first)
        if reader is not None:
            return reader
        assert recording.error is not None
        raise recording.error

    async def _live(self, recording: Recording, run: Run) -> None:
        """Make an answer, keep it as it comes, and say what became of it."""
        running = asyncio.create_task(run(recording), name="run")
        self._runs.add(running)
        running.add_done_callback(lambda _: recording.notify())
        wait_for(running)
        try:
            await self._keep(recording, running)
            await self._end(recording, running)
        finally:
            self._runs.discard(running)
            if self._running.get(recording.name) is recording:
                del self._running[recording.name]
            if not recording.ended:
                recording.end(internal_error())

    async def _keep(self, recording: Recording, running: asyncio.Task[bool]) -> None:
        """Report what has come, and that the run lives, until it ends; stop it if it may not go on.

        Somebody else may answer the key once nothing was heard of this run for a while.
        """
        reported_at = time.monotonic()
        while not (running.done() or recording.stopped):
            began_at = time.monotonic()
            give_up_at = reported_at + STORE_FAILS_SECONDS_MAX
            try:
                # A store that hangs is not waited for any longer than one that fails.
                async with asyncio.timeout(max(RETRY_SECONDS, give_up_at - began_at)):
                    recording.lost = not await self._reports.report(recording)
                reported_at = began_at
            except (AnswersUnavailableError, TimeoutError):
                recording.lost = time.monotonic() >= give_up_at
            if recording.lost:
                _log.error("answer_lost", consequence="it is stopped; what it used is charged")
                recording.stop()
            elif reported_at < began_at:
                await asyncio.wait({running}, timeout=RETRY_SECONDS)
            else:
                await _rest(recording, running)
        running.cancel()
        await asyncio.wait({running})

    async def _end(self, recording: Recording, running: asyncio.Task[bool]) -> None:
        """Tell readers and the store how a run has ended.

        What was charged is kept. What cost nothing is forgotten, so that a repeat tries again.
        Where it is not certain what it cost the key is left as it is; nobody reports it any more.
        """
        error, certain = _outcome(recording, running)
        if recording.lost:
            recording.end(error)
        elif recording.charged:
            recording.end(error)
            await self._reports.insist(recording)
        else:
            if certain:
                await self._drop(recording.name, recording.token)
            # Whoever waits asks again, and must not find this one.
            del self._running[recording.name]
            recording.end(error)

    async def aclose(self, timeout_seconds: float) -> None:
        """Let answers come to their end for a while, and stop those that have not."""
        if self._lives:
            await asyncio.wait(set(self._lives), timeout=timeout_seconds)
        self._reports.closing = True
        for running in self._runs:
            running.cancel()
        if self._lives:
            await asyncio.wait(set(self._lives))
        await self._reports.aclose()


async def _begun(reader: RecordingReader) -> RecordingReader | None:
    """Return a reader once its answer has begun; close it where none does, or nobody waits."""
    try:
        begins = await reader.begins()
    except BaseException:
        reader.close()
        raise
    if begins:
        return reader
    reader.close()
    return None


async def _rest(recording: Recording, running: asyncio.Task[bool]) -> None:
    """Wait until there is something to report of a run, or it is time to say that it lives."""
    await asyncio.wait({running}, timeout=REPORT_PAUSE_SECONDS)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BEAT_SECONDS):
            while not (running.done() or recording.stopped or recording.has_unkept()):
                await recording.change()


def _outcome(recording: Recording, running: asyncio.Task[bool]) -> tuple[Exception | None, bool]:
    """Return why a run broke off, and whether all that it may cost has been charged."""
    if running.cancelled():
        if recording.stopped:
            return AnswersUnavailableError(), False
        return ShuttingDownError(), False
    error = running.exception()
    if error is None:
        return None if recording.complete else AnswerBrokeOffError(), running.result()
    if isinstance(error, ServiceError):
        return error, True
    _log.error("answer_failed", exc_info=error)
    return internal_error(), False
