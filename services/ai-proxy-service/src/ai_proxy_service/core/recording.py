"""An answer while it is made, recorded for everybody who waits for it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from ai_proxy_service.core.answers import KeyState

# An answer that weighs more can be read by those who wait for it, but is not kept.
ANSWER_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """The status and the headers of an answer.

    Attributes:
        streamed: what follows is sent as it comes; otherwise it is one whole.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    streamed: bool

    def encode(self) -> bytes:
        """Return it as the first piece that is kept."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, piece: bytes) -> "AnswerHead":
        """Read the first piece that was kept."""
        return msgspec.json.decode(piece, type=cls)


class AnswerReader(Protocol):
    """One who reads an answer, at its own pace."""

    @property
    def head(self) -> AnswerHead:
        """What the answer begins with."""

    async def receive(self) -> list[bytes]:
        """Return what has come; an empty list is the end.

        Raises:
            ServiceError: the answer broke off, or can't be read any more.
        """

    def close(self) -> None:
        """Read no more."""


class Recording:
    """An answer as it comes from the one run that makes it; any number of readers follow.

    Args:
        name: of its key.
        fingerprint: of the request.
        token: names the run.
        charging: is awaited before each charge.
        left: is called when its last reader leaves before its end.

    Attributes:
        name: of its key.
        fingerprint: of the request.
        token: names the run.
        head: what it begins with, once that is known.
        complete: all of it has come.
        too_large: it weighs more than is kept.
        charged: a charge for it may have been made.
        marked: the store knows that.
        lost: another run may answer the key, so this one has to stop.
        stopped: nothing more is to be asked of Gemini for it; what it used is charged.
        ended: nothing more comes.
        error: why it broke off.
        keeping: taken while pieces are handed to the store.
    """

    def __init__(
        self,
        name: bytes,
        fingerprint: bytes,
        token: bytes,
        charging: Callable[["Recording"], Awaitable[None]],
        left: Callable[["Recording"], None],
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.token = token
        self.head: AnswerHead | None = None
        self.complete = False
        self.too_large = False
        self.charged = False
        self.marked = False
        self.lost = False
        self.stopped = False
        self.ended = False
        self.error: Exception | None = None
        self.keeping = asyncio.Lock()
        self._charging = charging
        self._left = left
        self._weight_bytes = 0
        # The pieces from `_first` on; those before have been read by everybody.
        self._pieces: list[bytes] = []
        self._first = 0
        self._readers: set[RecordingReader] = set()
        self._changed = asyncio.Event()
        self._unkept = _Unkept()

    @property
    def state(self) -> KeyState:
        """How far what has been handed to the store has come."""
        if self.too_large:
            return KeyState.TOO_LARGE
        if not self.ended:
            return KeyState.RUNNING
        if not self.complete:
            return KeyState.LOST
        return KeyState.DONE if self._unkept.position == self._end else KeyState.RUNNING

    @property
    def unread(self) -> bool:
        """Whether it goes on although nobody reads it."""
        return not (self.ended or self.stopped or self._readers)

    async def before_charge(self) -> None:
        """Say that the answer is about to be charged; see `Claim`."""
        self.charged = True
        await self._charging(self)

    def begin(self, head: AnswerHead) -> None:
        """Record what the answer begins with."""
        self.head = head
        self.notify()

    async def put(self, piece: bytes) -> None:
        """Record a piece; once the answer is too large to keep, wait until everybody has read."""
        if piece:
            self._pieces.append(piece)
            self._weight_bytes += len(piece)
            self.notify()
        if self._weight_bytes > ANSWER_BYTES_MAX:
            self.too_large = True
            while any(reader.position < self._end for reader in self._readers):
                await self.change()
            self._first = self._end
            self._pieces.clear()

    def stop(self) -> None:
        """Have its run stopped."""
        self.stopped = True
        self.notify()

    def end(self, error: Exception | None = None) -> None:
        """Let readers know that nothing more comes."""
        self.ended = True
        self.error = error
        self.notify()

    def reader(self) -> "RecordingReader":
        """Return one who reads from the beginning."""
        reader = RecordingReader(self)
        self._readers.add(reader)
        return reader

    def leave(self, reader: "RecordingReader") -> None:
        """Forget a reader."""
        self._readers.discard(reader)
        self.notify()
        if self.unread:
            self._left(self)

    def pieces_from(self, position: int) -> list[bytes]:
        """Return the pieces from a position on."""
        return self._pieces[position - self._first :]

    @property
    def _end(self) -> int:
        return self._first + len(self._pieces)

    def notify(self) -> None:
        """Wake whoever waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self) -> None:
        """Return once something has changed."""
        await self._changed.wait()

    def unkept(self) -> tuple[int, Sequence[bytes]]:
        """Return the pieces that the store has not confirmed, and how many it has.

        They stay the same until it confirms them: it may have them without our knowing.
        """
        unkept = self._unkept
        if self.too_large:
            return 0, ()
        # A whole answer is kept all at once: without its body its head is of no use.
        if not unkept.pieces and self.head and (self.head.streamed or self.complete):
            if not unkept.confirmed:
                unkept.pieces.append(self.head.encode())
            body = b"".join(self.pieces_from(unkept.position))
            unkept.position = self._end
            if body:
                unkept.pieces.append(body)
        return unkept.confirmed, tuple(unkept.pieces)

    def has_unkept(self) -> bool:
        """Tell whether there is anything for the store."""
        return bool(self.unkept()[1])

    def confirm(self, pieces: int) -> None:
        """Note that the store has so many more pieces."""
        self._unkept.confirmed += pieces
        del self._unkept.pieces[:pieces]


@dataclass(slots=True)
class _Unkept:
    """What the store is still to be given: pieces, after those that it has confirmed."""

    confirmed: int = 0
    position: int = 0
    pieces: list[bytes] = field(default_factory=list)


class RecordingReader:
    """Reads a recording of this process; see `AnswerReader`.

    Attributes:
        position: how many pieces it has read.
    """

    def __init__(self, recording: Recording) -> None:
        self.position = 0
        self._recording = recording

    @property
    def head(self) -> AnswerHead:
        """See `AnswerReader`."""
        assert self._recording.head is not None
        return self._recording.head

    async def begins(self) -> bool:
        """Wait for the answer's beginning; return whether it has one."""
        while self._recording.head is None and not self._recording.ended:
            await self._recording.change()
        return self._recording.head is not None

    async def receive(self) -> list[bytes]:
        """See `AnswerReader`."""
        recording = self._recording
        while not (pieces := recording.pieces_from(self.position)):
            if recording.ended:
                if recording.error is not None:
                    raise recording.error
                return []
            await recording.change()
        self.position += len(pieces)
        recording.notify()
        return pieces

    def close(self) -> None:
        """See `AnswerReader`."""
        self._recording.leave(self)
