"""What every command works with: its options, its settings, its output, the service."""

import shlex
import sys
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

from credits_service.cli.failures import CommandError, Json, refused, usage
from credits_service.cli.output import Output
from credits_service.cli.service import Answer, Service
from credits_service.cli.settings import KeySettings, key_of, load

DEFAULT_URL = "http://127.0.0.1:8001"
DEFAULT_RETRIES = 5

JsonFlag = Annotated[
    bool, typer.Option("--json", help="For scripts: one JSON document on standard output.")
]
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        metavar="KEY",
        help="Repeat a command whose answer was lost, under the key that it said.",
    ),
]
UserId = Annotated[str, typer.Argument(metavar="USER_ID", help="The account.", show_default=False)]


@dataclass
class Session:
    """One run of the command."""

    url: str = DEFAULT_URL
    key_file: Path | None = None
    retries: int = DEFAULT_RETRIES
    as_json: bool = False
    arguments: list[str] = field(default_factory=lambda: sys.argv[1:])

    @cached_property
    def output(self) -> Output:
        """Where to write; not to be used before all options are read."""
        return Output(as_json=self.as_json)

    @cached_property
    def service(self) -> Service:
        """The credits service."""
        key = key_of(self.key_file) if self.key_file else load(KeySettings).api_key()
        return Service(self.url, key, retries=self.retries, note=self.output.note)

    def change(self, method: str, path: str, body: Json, key: str | None) -> Answer:
        """Ask the service for a change, under a key that makes repeating it harmless.

        Raises:
            CommandError: refused, or the outcome is not known; then with the key.
        """
        key = key or f"cli-{uuid.uuid4()}"
        try:
            return self.service.change(method, path, body, key)
        except CommandError as error:
            if not error.facts.get("outcome_unknown"):
                raise
            raise CommandError(
                f"{error}\nIt may have been done or not. Repeating it under the same key is safe, "
                f"it will not be done twice:\n  {self._repeat(key)}",
                error.exit_code,
                {**error.facts, "idempotency_key": key},
            ) from None

    def _repeat(self, key: str) -> str:
        words = list(self.arguments)
        if not any(word.startswith("--idempotency-key") for word in words):
            words += ["--idempotency-key", key]
        return shlex.join(["credits", *words])

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something that can't be undone.

        Raises:
            CommandError: the answer is no, or nobody can be asked.
        """
        if yes:
            return
        if not sys.stdin.isatty():
            raise usage(f"{question} There is nobody to ask: say --yes to do it.")
        if not typer.confirm(question, err=True):
            raise refused("Nothing was changed.")


def session_of(context: typer.Context, *, as_json: bool) -> Session:
    """Return this run's session; `--json` may stand before or after the command's name."""
    session = context.ensure_object(Session)
    session.as_json |= as_json
    return session
