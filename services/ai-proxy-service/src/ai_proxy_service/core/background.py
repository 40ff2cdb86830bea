"""Tasks that outlive the request that started them, known to the process until they end."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from service_kit.access_log import wait_for
from service_kit.logging import get_logger

_log = get_logger(__name__)
T = TypeVar("T")


class BackgroundTasks:
    """Keeps a reference to each task (the event loop does not) and waits for them at the end.

    Tasks that move money are never cancelled; their calls have time limits of their own.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._money: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a coroutine in a task of its own, which the end of the process may cancel."""
        return self._start(work, name, self._tasks)

    def start_money(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a coroutine that must come to its end, whoever stops waiting for it."""
        task = self._start(work, name, self._money)
        # The request's line tells what it has cost, also where its client did not wait for that.
        wait_for(task)
        return task

    def _start(
        self, work: Coroutine[Any, Any, T], name: str, tasks: set[asyncio.Task[Any]]
    ) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        tasks.add(task)

        def ended(task: asyncio.Task[T]) -> None:
            tasks.discard(task)
            if not task.cancelled() and task.exception() is not None:
                _log.error(
                    "background_task_failed", task=task.get_name(), exc_info=task.exception()
                )

        task.add_done_callback(ended)
        return task

    async def finish(self, timeout_seconds: float) -> None:
        """Let all tasks end, cancel the cancellable ones in time, and await the others."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_seconds)
        while self._tasks or self._money:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks | self._money)
