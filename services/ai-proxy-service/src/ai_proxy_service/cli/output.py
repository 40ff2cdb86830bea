"""What commands show: a table for people, one JSON document for scripts.

The answer goes to standard output; whatever else there is to say, to standard error.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

# Where there is no terminal, lines are not broken: a script or a pager reads them.
_PIPE_WIDTH = 400


class CommandError(Exception):
    """A command ends without having done what was asked; the message says why."""


def _console(*, to_stderr: bool) -> Console:
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(
        stderr=to_stderr,
        highlight=False,
        markup=False,
        width=None if stream.isatty() else _PIPE_WIDTH,
    )


def document(content: dict[str, Any]) -> None:
    """Write the one document that a script gets."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(content)).decode() + "\n")
    sys.stdout.flush()


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[str] = frozenset()
) -> None:
    """Write a table.

    Args:
        columns: their names.
        rows: the values, in the columns' order.
        right: which columns are figures.
    """
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        grid.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    _console(to_stderr=False).print(grid)


def line(text: str) -> None:
    """Write a line of the answer."""
    _console(to_stderr=False).print(Text(text), soft_wrap=True)


def note(text: str) -> None:
    """Say something beside the answer."""
    _console(to_stderr=True).print(Text(text), soft_wrap=True)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how much is done of how much; elsewhere show nothing."""
    console = _console(to_stderr=True)
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    task = bars.add_task(what, total=None)
    with bars:
        yield lambda done, total: bars.update(task, completed=done, total=total)


def complain(text: str) -> None:
    """Say why nothing came of it."""
    console = _console(to_stderr=True)
    console.print(Text("Error: ", style="bold red") + Text(text), soft_wrap=True)
