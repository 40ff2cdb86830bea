"""An executor whose threads never keep the process from ending.

The standard library's waits for every running call when the interpreter ends: for minutes,
if the call waits for a server that has gone silent.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class NoThreadFreeError(Exception):
    """All threads are busy; waiting for one could take as long as the longest call."""


class DaemonThreadExecutor(Executor):
    """Runs each call in a daemon thread of its own, up to a number of them.

    Args:
        threads_max: calls that may run side by side.
        name: beginning of the threads' names.
    """

    def __init__(self, threads_max: int, name: str) -> None:
        self._free = threading.Semaphore(threads_max)
        self._name = name

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start a call.

        Raises:
            NoThreadFreeError: as many calls as are allowed are running.
        """
        if not self._free.acquire(blocking=False):
            raise NoThreadFreeError
        future: Future[T] = Future()

        def run() -> None:
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it belongs to who waits for the result
                self._free.release()
                future.set_exception(error)
            else:
                self._free.release()
                future.set_result(result)

        threading.Thread(target=run, name=self._name, daemon=True).start()
        return future
