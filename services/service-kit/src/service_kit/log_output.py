"""Where log lines go: those of one turn of the event loop with one write.

A busy process writes a line for each request, and each write is a system call.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging


class LogOutput:
    """The stream of a handler, which libraries' lines go to as well.

    Args:
        handler: has the stream, and the lock that keeps lines whole.
    """

    def __init__(self, handler: "logging.StreamHandler[Any]") -> None:
        self._handler = handler
        self._flushing_in: asyncio.AbstractEventLoop | None = None

    def write(self, line: str) -> None:
        """Write a line, and all before it, at once."""
        self._put(line)
        self._flush()

    def write_soon(self, line: str) -> None:
        """Write a line with the others of this turn of the loop; at once where there is none."""
        self._put(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._flush()
            return
        if self._flushing_in is not loop:
            self._flushing_in = loop
            loop.call_soon(self._flush)

    # What can't be written must not fail what it tells of.

    def _put(self, line: str) -> None:
        handler = self._handler
        with contextlib.suppress(OSError, ValueError), handler.lock or contextlib.nullcontext():
            handler.stream.write(line + handler.terminator)

    def _flush(self) -> None:
        self._flushing_in = None
        handler = self._handler
        with contextlib.suppress(OSError, ValueError), handler.lock or contextlib.nullcontext():
            handler.stream.flush()


class Lines:
    """Where the lines of one of our loggers go.

    Failures are written at once, in case the process does not live on.
    """

    __slots__ = ("_output", "name")

    def __init__(self, name: str, output: LogOutput) -> None:
        self.name = name
        self._output = output

    def write_soon(self, line: str) -> None:
        """See `LogOutput`."""
        self._output.write_soon(line)

    def write(self, line: str) -> None:
        """See `LogOutput`."""
        self._output.write(line)

    debug = info = write_soon
    warning = error = critical = write
