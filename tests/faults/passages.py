"""Points of a service's code at which its process is killed.

The service knows nothing of this: functions of its modules are wrapped in the process that is
going to die. A name that is not there any more fails, and so does a point that is not passed.
"""

import os
import signal
from collections.abc import Callable
from typing import Any

from service_kit.request_id import current_request_id
from support.fork_server import Report


class Passage:
    """Counts how often a point is passed; the n-th time this process is killed."""

    def __init__(self, number: int, report: Report) -> None:
        self._left = number
        self._report = report

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._report({"reached": os.getpid(), "request_id": current_request_id()})
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()


Install = Callable[[Passage], None]
When = Callable[..., bool]


def always(*_args: Any, **_kwargs: Any) -> bool:
    return True


def _wrapped(owner: Any, name: str, wrap: Callable[[Passage, Any], Any]) -> Install:
    def install(passage: Passage) -> None:
        setattr(owner, name, wrap(passage, getattr(owner, name)))

    return install


def before(owner: Any, name: str, when: When = always) -> Install:
    """Return the point where a function is called."""

    def wrap(passage: Passage, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if when(*args, **kwargs):
                passage()
            return original(*args, **kwargs)

        return call

    return _wrapped(owner, name, wrap)


def after(owner: Any, name: str, when: When = always) -> Install:
    """Return the point where a function has done its work."""

    def wrap(passage: Passage, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts = when(*args, **kwargs)
            result = original(*args, **kwargs)
            if counts:
                passage()
            return result

        return call

    return _wrapped(owner, name, wrap)


def after_awaiting(owner: Any, name: str, when: When = always) -> Install:
    """Return the point where a coroutine has done its work; only then it is asked if it counts."""

    def wrap(passage: Passage, original: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            result = await original(*args, **kwargs)
            if when(*args, **kwargs):
                passage()
            return result

        return call

    return _wrapped(owner, name, wrap)


def commit_after(
    owner: Any, name: str, passed: Callable[..., Install], connection: type, when: When = always
) -> Install:
    """Return the point at the commit of what a function wrote; others commit as well.

    Args:
        owner: where the function is.
        name: the function's.
        passed: `before` or `after` the commit.
        connection: the class that commits.
        when: which calls of the function count.
    """
    written = False

    def is_its_commit(*_args: Any) -> bool:
        nonlocal written
        its, written = written, False
        return its

    def install(passage: Passage) -> None:
        original = getattr(owner, name)

        def write_and_note(*args: Any, **kwargs: Any) -> Any:
            nonlocal written
            written = when(*args, **kwargs)
            return original(*args, **kwargs)

        setattr(owner, name, write_and_note)
        passed(connection, "commit", is_its_commit)(passage)

    return install
