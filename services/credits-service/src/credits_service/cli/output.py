"""What is shown: tables and lines for people, one JSON document for scripts.

The answer goes to standard output; whatever else there is to say, to standard error.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from credits_service.cli.failures import CommandError, Json
from credits_service.db.progress import Report

# Where there is no terminal, lines are not broken: a script or a pager reads them.
_PIPE_WIDTH = 400
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


def _console(*, to_stderr: bool) -> Console:
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(
        stderr=to_stderr,
        highlight=False,
        markup=False,
        width=None if stream.isatty() else _PIPE_WIDTH,
    )


def _text(value: object) -> Text:
    """Make a cell of what somebody else wrote: no markup, nothing that steers a terminal."""
    if value is None:
        return Text("-")
    return Text("".join(char if char.isprintable() else _UNPRINTABLE for char in str(value)))


class Output:
    """Writes for people, or for scripts.

    Args:
        as_json: for scripts.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._stdout = _console(to_stderr=False)
        self._stderr = _console(to_stderr=True)

    def document(self, document: Json) -> None:
        """Write the one document that a script gets."""
        sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
        sys.stdout.flush()

    def facts(self, title: str, facts: Iterable[tuple[str, object]]) -> None:
        """Write named values, one a line."""
        grid = Table.grid(padding=(0, 2))
        for name, value in facts:
            grid.add_row(Text(name, style="dim"), _text(value))
        self._stdout.print(_text(title), style="bold")
        self._stdout.print(grid)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        right: frozenset[str] = frozenset(),
    ) -> None:
        """Write a table.

        Args:
            columns: their names.
            rows: the values, in the columns' order.
            right: which columns are figures.
        """
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in columns:
            table.add_column(name, justify="right" if name in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(_text, row))
        self._stdout.print(table)

    def line(self, text: str) -> None:
        """Write a line of the answer."""
        self._stdout.print(_text(text), soft_wrap=True)

    def note(self, text: str) -> None:
        """Say something beside the answer."""
        for line in text.splitlines():
            self._stderr.print(_text(line), soft_wrap=True)

    def error(self, error: CommandError) -> None:
        """Say why nothing came of it."""
        first, *others = str(error).splitlines()
        self._stderr.print(Text("Error: ", style="bold red") + _text(first), soft_wrap=True)
        self.note("\n".join(others))
        if self.as_json:
            self.document({"error": error.document()})

    @contextmanager
    def progress(self) -> Iterator[Report]:
        """Show how far long work is, on a terminal; elsewhere show nothing."""
        bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._stderr,
            disable=not self._stderr.is_terminal,
            transient=True,
        )
        tasks = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        with bars:
            yield report
