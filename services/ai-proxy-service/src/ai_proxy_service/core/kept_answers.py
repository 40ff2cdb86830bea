"""Reads of the store of answers: bounded in time, and what another process makes, as it comes."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable
from typing import TypeVar

from ai_proxy_service.core.answers import AnswerStore, KeyEntry, KeyState
from ai_proxy_service.core.errors import (
    AnswerBrokeOffError,
    AnswerNotKeptError,
    AnswersUnavailableError,
)
from ai_proxy_service.core.recording import AnswerHead
from service_kit.logging import get_logger

_log = get_logger(__name__)
T = TypeVar("T")

# A run that has reported nothing for so long has no process any more.
SILENCE_SECONDS_MAX = 15.0
# How long a store that fails is worth asking again. Less than a silence: a run that can't report
# has to stop before others may take it for dead.
STORE_FAILS_SECONDS_MAX = 10.0
POLL_SECONDS = 0.05
_TOKEN_BYTES = 16
_NOT_KEPT = {
    KeyState.TOO_LARGE: ("idempotency_answer_too_large", "the answer was too large to be kept"),
    KeyState.LOST: ("idempotency_answer_lost", "the answer was lost with a server"),
    KeyState.PRUNED: ("idempotency_answer_pruned", "the answer had to make room for others"),
}


def not_kept(state: KeyState) -> AnswerNotKeptError:
    """Return the error for an answer that was charged, but can't be shown."""
    return AnswerNotKeptError(*_NOT_KEPT[state])


def new_token() -> bytes:
    """Return a token that names one run."""
    return secrets.token_bytes(_TOKEN_BYTES)


class CheckedStore:
    """The store of answers; each of its failures is one error, and is logged once.

    Attributes:
        store: what is asked.
    """

    def __init__(self, store: AnswerStore) -> None:
        self.store = store
        self._failed = False

    async def ask(self, question: Awaitable[T]) -> T:
        """Wait for an answer of the store.

        Raises:
            AnswersUnavailableError: it has none.
        """
        try:
            async with asyncio.timeout(self.store.timeout_seconds):
                answer = await question
        except Exception as error:
            if not self._failed:
                self._failed = True
                _log.warning(
                    "answer_store_unavailable",
                    error=type(error).__name__,
                    consequence="requests with an idempotency key are refused with 503",
                )
            raise AnswersUnavailableError from error
        if self._failed:
            self._failed = False
            _log.info("answer_store_available")
        return answer


class KeptReader:
    """Reads an answer from the store, while it is made there by another process or afterwards.

    Attributes:
        entry: what was last seen of it.
        silent: its run has reported nothing for too long.
    """

    def __init__(self, store: CheckedStore, name: bytes, entry: KeyEntry) -> None:
        self.entry = entry
        self.silent = False
        self._store = store
        self._name = name
        self._head: AnswerHead | None = None
        self._position = 0
        self._unread: list[bytes] = []
        self._beat_at: float | None = None

    @property
    def head(self) -> AnswerHead:
        """See `AnswerReader`."""
        assert self._head is not None
        return self._head

    async def begins(self) -> bool:
        """Wait for the answer's beginning; return whether it has one.

        Raises:
            ServiceError: it can't be read.
        """
        pieces = await self._next()
        if pieces is None:
            return False
        self._head = AnswerHead.decode(pieces[0])
        self._unread = pieces[1:]
        return True

    async def receive(self) -> list[bytes]:
        """See `AnswerReader`."""
        pieces, self._unread = self._unread, []
        if pieces:
            return pieces
        more = await self._next()
        if more is None:
            if self.silent:
                await self._free()
            raise AnswerBrokeOffError
        return more

    async def _free(self) -> None:
        """Let the next repeat be answered anew; if this one was charged, let it be told so."""
        token, store = new_token(), self._store.store
        claim = store.claim(self._name, self.entry.fingerprint, token, self.entry)
        with contextlib.suppress(AnswersUnavailableError):
            entry = await self._store.ask(claim)
            if entry.token == token:
                await self._store.ask(store.drop(self._name, token))

    async def _next(self) -> list[bytes] | None:
        """Return what has come since; nothing at the end, None if its run is gone or silent."""
        while (found := await self._read()) is not None:
            entry, pieces = found
            now = time.monotonic()
            if self._beat_at is None or entry.beat != self.entry.beat:
                self._beat_at = now
            self.entry = entry
            self._position += len(pieces)
            if entry.state in _NOT_KEPT:
                raise not_kept(entry.state)
            if pieces or (entry.state is KeyState.DONE and self._position >= entry.pieces):
                return pieces
            if entry.state is KeyState.DONE:
                # The store has forgotten what it should have.
                raise not_kept(KeyState.LOST)
            if now - self._beat_at > SILENCE_SECONDS_MAX:
                self.silent = True
                return None
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def _read(self) -> tuple[KeyEntry, list[bytes]] | None:
        give_up_at = time.monotonic() + STORE_FAILS_SECONDS_MAX
        while True:
            question = self._store.store.read(self._name, self.entry.token, self._position)
            try:
                return await self._store.ask(question)
            except AnswersUnavailableError:
                if time.monotonic() > give_up_at:
                    raise
            # Nobody can be taken for silent who may not have been heard.
            self._beat_at = None
            await asyncio.sleep(POLL_SECONDS)

    def close(self) -> None:
        """See `AnswerReader`."""
