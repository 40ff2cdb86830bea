"""Work that many may ask for at once, and that is done once for all of them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SharedWork(Generic[T]):
    """Runs one piece of work at a time; who asks while it runs is told its outcome.

    Its cost is bounded by that: whoever may ask without a key can't keep more than one running.
    """

    def __init__(self) -> None:
        self._running: asyncio.Task[T] | None = None

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what the work returns, or raise what it raises."""
        running = self._running
        if running is None:
            running = self._running = asyncio.create_task(work(), name="shared-work")
            running.add_done_callback(self._done)
        # Who leaves does not end it for the others.
        return await asyncio.shield(running)

    def _done(self, task: asyncio.Task[T]) -> None:
        self._running = None
        if not task.cancelled():
            task.exception()  # nobody may be left to be told
