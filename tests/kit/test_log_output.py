"""Lines of one turn of the loop are written together, and none is lost or late."""

import asyncio
import io
import logging

import pytest

from service_kit.log_output import Lines, LogOutput


class _Stream(io.StringIO):
    """Counts flushes, each of which is a system call; tells what had been written by then."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[str] = []

    def flush(self) -> None:
        self.flushed.append(self.getvalue())
        super().flush()


@pytest.fixture
def stream() -> _Stream:
    return _Stream()


@pytest.fixture
def lines(stream: _Stream) -> Lines:
    return Lines("a", LogOutput(logging.StreamHandler(stream)))


async def test_lines_of_one_turn_are_written_at_its_end(stream: _Stream, lines: Lines) -> None:
    for number in range(3):
        lines.info(f"line {number}")
    assert stream.flushed == []
    await asyncio.sleep(0)
    assert stream.flushed == ["line 0\nline 1\nline 2\n"]
    lines.info("line 3")
    await asyncio.sleep(0)
    assert len(stream.flushed) == 2
    assert stream.getvalue().endswith("line 3\n")


async def test_a_failure_is_written_at_once_with_all_before_it(
    stream: _Stream, lines: Lines
) -> None:
    lines.info("before")
    lines.error("failure")
    assert stream.flushed == ["before\nfailure\n"]


def test_without_a_loop_each_line_is_written_at_once(stream: _Stream, lines: Lines) -> None:
    lines.info("line")
    assert stream.flushed == ["line\n"]


def test_a_loop_that_ended_before_its_turn_keeps_no_later_line(
    stream: _Stream, lines: Lines
) -> None:
    async def write() -> None:
        lines.info("line")

    asyncio.run(write())
    asyncio.run(write())
    assert stream.flushed[-1] == "line\nline\n"


@pytest.mark.parametrize("error", [OSError, ValueError])
async def test_what_can_not_be_written_fails_nothing(error: type[Exception]) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise error

        def flush(self) -> None:
            raise error

    lines = Lines("a", LogOutput(logging.StreamHandler(Broken())))
    lines.info("line")
    await asyncio.sleep(0)
    lines.error("line")
