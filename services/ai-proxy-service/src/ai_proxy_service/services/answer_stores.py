"""Where answers under idempotency keys are kept: this process, a file, or Redis.

All are bounded: in time everywhere, in number and size where no operator has set a limit.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ai_proxy_service.core.answers import (
    AnswerStore,
    KeyEntry,
    KeyReport,
    KeyState,
    claimed,
    reported,
)
from ai_proxy_service.services.answer_bounds import AnswerBounds
from ai_proxy_service.services.answer_store_redis import RedisAnswerStore
from ai_proxy_service.services.answer_store_sqlite import SqliteAnswerStore

FILE_NAME = "answers.sqlite3"
# What one process keeps is in its memory, not on a disk.
_MEMORY_BOUNDS = AnswerBounds(stored_bytes=128 * 1024 * 1024)


@dataclass(slots=True)
class _Kept:
    entry: KeyEntry
    changed_at: float
    pieces: list[bytes]

    @property
    def weight_bytes(self) -> int:
        return sum(map(len, self.pieces)) if self.entry.state is KeyState.DONE else 0


class MemoryAnswerStore:
    """Keeps answers in this process."""

    timeout_seconds = 1.0

    def __init__(
        self,
        bounds: AnswerBounds = _MEMORY_BOUNDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bounds = bounds
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._stored_bytes = 0

    async def claim(
        self, name: bytes, fingerprint: bytes, token: bytes, stale: KeyEntry | None
    ) -> KeyEntry:
        """See `AnswerStore`."""
        self._prune()
        kept = self._kept.get(name)
        entry = claimed(kept.entry if kept else None, fingerprint, token, stale)
        if kept is None or entry.token != kept.entry.token:
            self._keep(name, _Kept(entry, self._clock(), []))
        else:
            kept.entry = entry
        return entry

    async def report(self, name: bytes, token: bytes, report: KeyReport) -> bool:
        """See `AnswerStore`."""
        kept = self._kept.get(name)
        if kept is None or kept.entry.token != token:
            return False
        entry = reported(kept.entry, report)
        pieces = [*kept.pieces[: report.position], *report.pieces][: entry.pieces]
        self._keep(name, _Kept(entry, self._clock(), pieces))
        return True

    async def read(
        self, name: bytes, token: bytes, position: int
    ) -> tuple[KeyEntry, list[bytes]] | None:
        """See `AnswerStore`."""
        kept = self._kept.get(name)
        if kept is None or kept.entry.token != token:
            return None
        return kept.entry, kept.pieces[position:]

    async def drop(self, name: bytes, token: bytes) -> None:
        """See `AnswerStore`."""
        kept = self._kept.get(name)
        if kept is not None and kept.entry.token == token:
            self._forget(name)

    def _keep(self, name: bytes, kept: _Kept) -> None:
        if name in self._kept:
            self._forget(name)
        self._kept[name] = kept
        self._stored_bytes += kept.weight_bytes

    def _forget(self, name: bytes) -> None:
        self._stored_bytes -= self._kept.pop(name).weight_bytes

    def _prune(self) -> None:
        """Forget what has expired and is too much; of what is too heavy, that it was answered."""
        oldest = self._clock() - self._bounds.seconds
        too_many = len(self._kept) - self._bounds.answers
        for name, kept in list(self._kept.items()):
            heavy = self._stored_bytes > self._bounds.stored_bytes
            if kept.changed_at < oldest:
                self._forget(name)
            elif too_many <= 0 and not heavy:
                break
            elif kept.entry.state is KeyState.RUNNING:
                continue
            elif too_many > 0:
                self._forget(name)
            elif kept.entry.state is KeyState.DONE:
                self._stored_bytes -= kept.weight_bytes
                kept.entry = replace(kept.entry, state=KeyState.PRUNED, pieces=0)
                kept.pieces = []
            too_many = len(self._kept) - self._bounds.answers

    async def aclose(self) -> None:
        """See `AnswerStore`."""
        self._kept.clear()


async def open_answer_store(uri: str, data_dir: Path) -> AnswerStore:
    """Open the store that the settings name.

    Args:
        uri: empty for a file that the workers of one machine share; ``redis://…`` or
            ``valkey://…`` for a store that machines share; ``memory://`` for this process only.
        data_dir: where the file is.

    Raises:
        OSError: the folder can't be made.
        sqlite3.Error: the file can't be opened or written.
        ValueError: the address of the store is not one.
    """
    if not uri:
        return await SqliteAnswerStore.open(data_dir / FILE_NAME)
    if uri.startswith("memory"):
        return MemoryAnswerStore()
    return RedisAnswerStore.connect(uri)
