"""Runs of answers that do what a test tells them to, and a store that fails when it is told to."""

import asyncio
from collections.abc import Callable
from typing import Any

from ai_proxy_service.core.answering import Answers, FoundAnswer
from ai_proxy_service.core.answers import AnswerStore, KeyEntry
from ai_proxy_service.core.recording import AnswerHead, Recording
from ai_proxy_service.services.answer_stores import MemoryAnswerStore

PRINT = b"fingerprint"
STREAM = AnswerHead(200, (("content-type", "text/event-stream"),), streamed=True)
WHOLE = AnswerHead(200, (("content-type", "application/json"),), streamed=False)

Process = Callable[[AnswerStore], Answers]


class Script:
    """A run that does what the test tells it to.

    Attributes:
        recordings: one for each time that it was run.
        going: lets it come to its end.
        stopped: it was cancelled.
    """

    def __init__(
        self,
        head: AnswerHead = STREAM,
        *,
        charged: bool = True,
        certain: bool = True,
        error: Exception | None = None,
    ) -> None:
        self.head = head
        self.charged = charged
        self.certain = certain
        self.error = error
        self.recordings: list[Recording] = []
        self.begun = asyncio.Event()
        self.going = asyncio.Event()
        self.stopped = False

    async def run(self, recording: Recording) -> bool:
        self.recordings.append(recording)
        self.begun.set()
        try:
            if self.error is None and self.head.streamed:
                recording.begin(self.head)
                await recording.put(b"first ")
            await self.going.wait()
        except asyncio.CancelledError:
            self.stopped = True
            raise
        if self.charged:
            await recording.before_charge()
        if self.error is not None:
            raise self.error
        if not self.head.streamed:
            recording.begin(self.head)
        await recording.put(b"last")
        recording.complete = True
        return self.certain


class WatchedStore(MemoryAnswerStore):
    """A store that fails while it is told to.

    Attributes:
        failed: is set once it has failed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.broken = False
        self.failed = asyncio.Event()
        self._reported = asyncio.Condition()

    async def until(self, name: bytes, condition: Callable[[KeyEntry], bool]) -> None:
        """Wait until something holds of a key."""
        async with asyncio.timeout(30), self._reported:
            while not condition(await state(self, name)):
                await self._reported.wait()

    def _check(self) -> None:
        if self.broken:
            self.failed.set()
            raise OSError("disk I/O error")

    async def claim(self, *args: Any) -> KeyEntry:
        self._check()
        return await super().claim(*args)

    async def report(self, *args: Any) -> bool:
        self._check()
        owned = await super().report(*args)
        async with self._reported:
            self._reported.notify_all()
        return owned

    async def read(self, *args: Any) -> tuple[KeyEntry, list[bytes]] | None:
        self._check()
        return await super().read(*args)


async def read(found: FoundAnswer) -> bytes:
    """Read an answer to its end."""
    read = b""
    while pieces := await found.reader.receive():
        read += b"".join(pieces)
    found.reader.close()
    return read


async def state(store: AnswerStore, name: bytes) -> KeyEntry:
    """Return what a store knows of a key that is taken."""
    return await store.claim(name, PRINT, b"an observer", None)
