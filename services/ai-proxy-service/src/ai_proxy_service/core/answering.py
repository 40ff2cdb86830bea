"""One answer for each idempotency key: made once, and read by all who ask for it."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from ai_proxy_service.core.answers import AnswerStore, KeyReport, KeyState
from ai_proxy_service.core.errors import AnswersUnavailableError, KeyReusedError
from ai_proxy_service.core.kept_answers import (
    STORE_FAILS_SECONDS_MAX,
    CheckedStore,
    KeptReader,
    not_kept,
)
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.recording import AnswerReader, Recording, RecordingReader
from service_kit.errors import ServiceError, internal_error
from service_kit.logging import get_logger

_log = get_logger(__name__)

# How often a run that has nothing new says that it lives.
BEAT_SECONDS = 3.0
# The least time between two reports of one run: what comes meanwhile is kept together.
REPORT_PAUSE_SECONDS = 0.05
RETRY_SECONDS = 0.5
# How long an answer that is there waits for a store that fails.
KEEP_SECONDS_MAX = 600.0
_TOKEN_BYTES = 16

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
        self._metrics = metrics
        self._running: dict[bytes, Recording] = {}
        self._runs: set[asyncio.Task[bool]] = set()
        self._lives: set[asyncio.Task[None]] = set()
        self._closing = False

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
            token = secrets.token_bytes(_TOKEN_BYTES)
            entry = await self._store.ask(self._store.store.claim(name, fingerprint, token, stale))
            if entry.token == token:
                reader = await self._begin(Recording(name, fingerprint, token, self._charging), run)
                return self._found(reader, repeated=False)
            if entry.fingerprint != fingerprint:
                raise KeyReusedError
            kept = KeptReader(self._store, name, entry)
            if await kept.begins():
                return self._found(kept, repeated=True)
            stale = kept.entry if kept.silent else None

    def _found(self, reader: AnswerReader, *, repeated: bool) -> FoundAnswer:
        self._metrics.idempotent.labels("repeated" if repeated else "first").inc()
        return FoundAnswer(reader, repeated)

    async def _join(self, recording: Recording, fingerprint: bytes) -> RecordingReader | None:
        """Return a reader of what runs in this process; None if it cost nothing, and is gone."""
        if recording.fingerprint != fingerprint:
            raise KeyReusedError
        if recording.too_large:
            raise not_kept(KeyState.TOO_LARGE)
        reader = recording.reader()
        try:
            begins = await reader.begins()
        except BaseException:
            reader.close()
            raise
        if begins:
            return reader
        reader.close()
        if recording.error is not None and (recording.charged or recording.lost):
            raise recording.error
        return None

    async def _begin(self, recording: Recording, run: Run) -> RecordingReader:
        """Have an answer made, in tasks of its own, and return its first reader."""
        self._running[recording.name] = recording
        reader = recording.reader()
        life = asyncio.create_task(self._live(recording, run), name="answer")
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)
        try:
            begins = await reader.begins()
        except BaseException:
            reader.close()
            raise
        if begins:
            return reader
        reader.close()
        assert recording.error is not None
        raise recording.error

    async def _live(self, recording: Recording, run: Run) -> None:
        """Make an answer, keep it as it comes, and say what became of it."""
        running = asyncio.create_task(run(recording), name="run")
        self._runs.add(running)
        running.add_done_callback(lambda _: recording.notify())
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
        while not running.done():
            began_at = time.monotonic()
            try:
                recording.lost = not await self._report(recording)
                reported_at = began_at
            except AnswersUnavailableError:
                recording.lost = began_at - reported_at > STORE_FAILS_SECONDS_MAX
            if recording.lost:
                _log.error("answer_lost", consequence="it is stopped; what it used is charged")
                running.cancel()
                await asyncio.wait({running})
                return
            await asyncio.wait({running}, timeout=REPORT_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    while not running.done() and not recording.has_unkept():
                        await recording.change()

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
            await self._report_end(
                recording, KeyState.DONE if recording.complete else KeyState.LOST
            )
        else:
            if certain:
                with contextlib.suppress(AnswersUnavailableError):
                    await self._store.ask(self._store.store.drop(recording.name, recording.token))
            # Whoever waits asks again, and must not find this one.
            del self._running[recording.name]
            recording.end(error)

    async def _report_end(self, recording: Recording, state: KeyState) -> None:
        give_up_at = time.monotonic() + KEEP_SECONDS_MAX
        while True:
            try:
                while recording.has_unkept():
                    await self._report(recording)
                await self._report(recording, state)
            except AnswersUnavailableError:
                if self._closing or time.monotonic() > give_up_at:
                    _log.error("answer_not_kept", consequence="a repeat may be refused")
                    return
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _report(self, recording: Recording, state: KeyState = KeyState.RUNNING) -> bool:
        async with recording.keeping:
            position, pieces = recording.unkept()
            report = KeyReport(
                position,
                pieces,
                charged=recording.charged,
                state=KeyState.TOO_LARGE if recording.too_large else state,
            )
            owned = await self._store.ask(
                self._store.store.report(recording.name, recording.token, report)
            )
            recording.confirm(len(pieces))
        return owned

    async def _charging(self, recording: Recording) -> None:
        """Note that an answer may be charged from now on; if its process dies, it is not made anew.

        The charge is made in any case.
        """
        cut_short = recording.ended and not recording.complete
        with contextlib.suppress(AnswersUnavailableError):
            await self._report(recording, KeyState.LOST if cut_short else KeyState.RUNNING)

    async def aclose(self, timeout_seconds: float) -> None:
        """Let answers come to their end for a while, and stop those that have not."""
        if self._lives:
            await asyncio.wait(set(self._lives), timeout=timeout_seconds)
        self._closing = True
        for running in self._runs:
            running.cancel()
        if self._lives:
            await asyncio.wait(set(self._lives))


def _outcome(recording: Recording, running: asyncio.Task[bool]) -> tuple[Exception | None, bool]:
    """Return why a run broke off, and whether all that it may cost has been charged."""
    if running.cancelled():
        if recording.lost:
            return AnswersUnavailableError(), False
        return shutting_down(), False
    error = running.exception()
    if error is None:
        return None, running.result()
    if isinstance(error, ServiceError):
        return error, True
    _log.error("answer_failed", exc_info=error)
    return internal_error(), False


def shutting_down() -> ServiceError:
    """Return the error that ends an answer for which the server did not wait."""
    return ServiceError(
        "The server is shutting down. Please try again.", status=503, code="server_is_overloaded"
    )
