"""A process that has imported everything and forks a child for each job.

Starting Python anew for each of a thousand children would take most of the time. The server
itself has no threads, so that forking it is safe. Both sides talk in lines of JSON.
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any, Self

Message = dict[str, Any]
Report = Callable[[Message], None]

_STOP_TIMEOUT_SECONDS = 60
# A child that nobody ends any more ends by itself.
_CHILD_SECONDS = 60


class ForkServer:
    """The caller's side: starts children one after the other and hears what they report.

    Args:
        module: what to run; its main calls `serve_forks`.
    """

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, job: Message) -> None:
        """Fork a child for a job; the one before has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def read(self) -> Message:
        """Wait for what the child reports; the last is `{"ended": its exit code}`."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the fork server has ended"
        message: Message = json.loads(line)
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_TIMEOUT_SECONDS)
        finally:
            self._process.kill()
            self._process.wait(_STOP_TIMEOUT_SECONDS)
            self._process.stdout.close()


def serve_forks(run: Callable[[Message, Report], None]) -> None:
    """The server's side: fork a child for each job that comes in, until no more can come.

    Args:
        run: what a child does with its job; it may report as it goes.
    """
    # What children print is no message.
    messages = os.dup(1)
    os.dup2(2, 1)

    def report(message: Message) -> None:
        # One write, so that what was reported is out whatever happens next.
        os.write(messages, json.dumps(message).encode() + b"\n")

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _be_child(run, json.loads(line), report)
        _child, status = os.waitpid(child, 0)
        report({"ended": os.waitstatus_to_exitcode(status)})


def _be_child(run: Callable[[Message, Report], None], job: Message, report: Report) -> None:
    code = 1
    try:
        signal.alarm(_CHILD_SECONDS)
        run(job, report)
        code = 0
    except BaseException:  # noqa: BLE001 - a child must never go on as a second server
        traceback.print_exc()
    finally:
        os._exit(code)
