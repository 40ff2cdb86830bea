"""What Gemini wants to see again with its tool calls, kept for clients that drop it.

It is a cache: what it loses costs some quality of the next answer, never the answer itself.
So every failure ends here, and a store that fails is left alone for a while.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

from ai_proxy_service.core.owned_names import owned_name
from ai_proxy_service.services.call_stores import (
    CallStore,
    MemoryCallStore,
    RedisCallStore,
    SqliteCallStore,
)
from service_kit.logging import get_logger

_log = get_logger(__name__)
T = TypeVar("T")

VALUE_BYTES_MAX = 64 * 1024
STORE_RETRY_SECONDS = 5.0
FILE_NAME = "call-memory.sqlite3"


class StoredCallMemory:
    """The `CallMemory` over any store.

    Args:
        store: where the values are.
        monotonic: the clock for pauses after a failure.
    """

    def __init__(
        self, store: CallStore, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._failed = False
        self._retry_at = 0.0

    async def recall(self, account: str, call_ids: Collection[str]) -> Mapping[str, bytes]:
        """See `CallMemory`."""
        if not call_ids:
            return {}
        names = {owned_name(account, call_id): call_id for call_id in call_ids}
        unknown: dict[bytes, bytes] = {}
        found = await self._ask(lambda: self._store.get(list(names)), unknown)
        return {names[key]: value for key, value in found.items()}

    async def remember(self, account: str, calls: Mapping[str, bytes]) -> None:
        """See `CallMemory`."""
        values = {
            owned_name(account, call_id): value
            for call_id, value in calls.items()
            if len(value) <= VALUE_BYTES_MAX
        }
        if values:
            await self._ask(lambda: self._store.put(values), None)

    async def aclose(self) -> None:
        """See `CallMemory`."""
        await self._store.aclose()

    async def _ask(self, question: Callable[[], Awaitable[T]], unknown: T) -> T:
        if not self._may_ask():
            return unknown
        try:
            async with asyncio.timeout(self._store.timeout_seconds):
                answer = await question()
        except Exception as error:  # noqa: BLE001 - a store's client may raise anything
            self._note_error(error)
            return unknown
        if self._failed:
            self._failed = False
            _log.info("call_memory_available")
        return answer

    def _may_ask(self) -> bool:
        if not self._failed:
            return True
        now = self._monotonic()
        if now < self._retry_at:
            return False
        # One request tries; the others don't wait for the outcome.
        self._retry_at = now + STORE_RETRY_SECONDS
        return True

    def _note_error(self, error: Exception) -> None:
        self._retry_at = self._monotonic() + STORE_RETRY_SECONDS
        if not self._failed:
            self._failed = True
            _log.warning(
                "call_memory_unavailable",
                error=type(error).__name__,
                consequence="tool calls of clients that drop signatures go without them",
            )


async def open_call_memory(uri: str, data_dir: Path) -> StoredCallMemory:
    """Open the memory that the settings name.

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
        return StoredCallMemory(await SqliteCallStore.open(data_dir / FILE_NAME))
    if uri.startswith("memory"):
        return StoredCallMemory(MemoryCallStore())
    return StoredCallMemory(RedisCallStore.connect(uri))
