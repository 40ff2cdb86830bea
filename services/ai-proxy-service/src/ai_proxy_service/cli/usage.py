"""`ai-proxy-service usage`: the record of each charge, for other programs."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from ai_proxy_service.cli import output
from ai_proxy_service.core.moments import micros_of, now_micros

usage_commands = typer.Typer(no_args_is_help=True)


@usage_commands.callback()
def usage() -> None:
    """The record of each charge: what was used, what it cost, and what became of it."""


def _micros(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is no day or moment such as 2026-01-31 or 2026-01-31T12:00:00Z."
        ) from None
    return micros_of(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


@usage_commands.command("export")
def export(
    *,
    from_micros: Annotated[
        int,
        typer.Option(
            "--from", metavar="MOMENT", parser=_micros, help="A day, or a moment; UTC if not said."
        ),
    ],
    to_micros: Annotated[
        int | None,
        typer.Option(
            "--to",
            metavar="MOMENT",
            parser=_micros,
            help="The first moment that is not in the period any more; now, if it is not given.",
        ),
    ] = None,
    form: Annotated[
        Literal["jsonl", "csv"],
        typer.Option("--format", help="jsonl: an object a line; csv: with a header."),
    ] = "jsonl",
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A new file; without it, standard output."),
    ] = None,
) -> None:
    """Write the records of what ended in a period, in that order; `credits reconcile` reads them.

    From the database that USAGE_LOG_URL and DATA_DIR name. The proxy may run meanwhile. Where
    several machines have files of their own, export on each. A file appears under its name only
    when it is complete.

    Examples:
      ai-proxy-service usage export --from 2026-11-01 --to 2026-12-01 --output november.jsonl
      ai-proxy-service usage export --from 2026-11-24T00:00:00Z --format csv > today.csv
    """
    # The database's libraries load slowly; no other command needs them.
    from ai_proxy_service.cli.usage_work import exported  # noqa: PLC0415 - see above

    until_micros = now_micros() if to_micros is None else to_micros
    if until_micros <= from_micros:
        raise typer.BadParameter("the period ends before it begins", param_hint="--to")
    written = asyncio.run(exported(from_micros, until_micros, form, file))
    output.note(f"{written:,} records")
