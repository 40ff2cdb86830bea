"""Tasks that outlive the request that started them, known to the process until they end."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from service_kit.logging import get_logger

_log = get_logger(__name__)


class BackgroundTasks:
    """Keeps a reference to each task (the event loop does not) and waits for them at the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run a coroutine in a task of its own."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("background_task_failed", task=task.get_name(), exc_info=task.exception())

    async def finish(self, timeout_seconds: float) -> None:
        """Let the tasks end by themselves, then cancel those that have not, and await them."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_seconds)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(set(self._tasks))
