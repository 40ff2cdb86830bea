"""The command that sets the proxy's usage log against the ledger and Google's bill."""

from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from credits_service.cli.failures import ExitCode, usage
from credits_service.cli.session import JsonFlag, session_of
from credits_service.core.moments import micros_from_datetime
from credits_service.reconciliation.period import Period

_Moment = "RFC 3339, or a date (UTC)"
_PERCENT_MAX = 100


def _moment(text: str) -> int:
    """Read a moment with its time zone, or a date as its beginning in UTC."""
    try:
        if len(text) == len("2026-01-31"):
            day = date.fromisoformat(text)
            return micros_from_datetime(datetime(day.year, day.month, day.day, tzinfo=UTC))
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _no_moment(text) from None
    if moment.tzinfo is None:
        raise _no_moment(text)
    return micros_from_datetime(moment)


def _no_moment(text: str) -> typer.BadParameter:
    return typer.BadParameter(f"{text!r} is no date, and no moment with its time zone")


def _percent(text: str) -> Decimal:
    try:
        percent = Decimal(text)
    except InvalidOperation:
        percent = Decimal(-1)
    if not (percent.is_finite() and 0 <= percent <= _PERCENT_MAX):
        raise typer.BadParameter(f"{text!r} is no percentage from 0 to {_PERCENT_MAX}")
    return percent


def reconcile(
    context: typer.Context,
    usage_files: Annotated[
        list[Path],
        typer.Option(
            "--usage",
            metavar="FILE",
            help="A usage log as `ai-proxy-service usage export` writes it, plain or gzip; "
            "repeatable: one for each machine that keeps its own.",
            show_default=False,
        ),
    ],
    start: Annotated[
        int,
        typer.Option(
            "--from",
            metavar="MOMENT",
            parser=_moment,
            help=f"Completions that ended from then on: {_Moment}.",
            show_default=False,
        ),
    ],
    end: Annotated[
        int,
        typer.Option(
            "--to", metavar="MOMENT", parser=_moment, help="Before then.", show_default=False
        ),
    ],
    *,
    google: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Google's billing export as CSV: a report by date and SKU, a cost table, or rows "
            "of the BigQuery export.",
        ),
    ] = None,
    tolerance: Annotated[
        Decimal,
        typer.Option(
            "--tolerance-percent",
            metavar="PERCENT",
            parser=_percent,
            help="How far the log's counts and Google's may be apart.",
        ),
    ] = Decimal(0),
    alias: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL=MODEL",
            help="What a moving model name was billed as: "
            "gemini-flash-latest=gemini-3.6-flash; repeatable.",
        ),
    ] = None,
    margin_hours: Annotated[
        int,
        typer.Option(min=1, max=24 * 31, help="How far around the period the ledger is read."),
    ] = 24,
    limit: Annotated[int, typer.Option(min=0, help="How many findings are shown.")] = 200,
    findings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A new file for all findings, as JSON lines."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Set the proxy's usage log against the ledger, and against Google's bill.

    Each charge is compared with its record: whether it is there, once, on the same account,
    with the same amount and the same counts, and whether the amount follows from them. What
    both sides agree on but should be known is told apart: charges that wait or were refused,
    shortfalls, holds that expired. Export the log from a day before the period to a day after:
    what began before the log does can't be found in it.

    Google's days are those of Pacific time; only days wholly in the period are compared. Costs
    are shown beside each other, with the proxy's mark-up and Google's discounts in them; only
    counts make a difference.

    Ends with 1 if there are differences.

    Examples:
      credits reconcile --usage usage.jsonl --from 2026-11-01 --to 2026-12-01
      credits reconcile --usage a.jsonl.gz --usage b.jsonl.gz --google report.csv
      --from 2026-11-01T00:00:00-07:00 --to 2026-12-01T00:00:00-08:00 --tolerance-percent 0.5
    """
    # The database's libraries load slowly, and only when the command runs.
    from credits_service.cli.reconcile_report import document_of, show  # noqa: PLC0415
    from credits_service.cli.reconcile_work import Task, reconciled  # noqa: PLC0415

    session = session_of(context, as_json=as_json)
    if end <= start:
        raise usage("--to must be after --from.")
    task = Task(
        usage=usage_files,
        google=google,
        period=Period(start, end),
        margin_hours=margin_hours,
        aliases=_aliases(alias or ()),
        shown_max=limit,
        findings=findings,
    )
    done = reconciled(session, task)
    document = document_of(done, tolerance)
    if session.as_json:
        session.output.document(document)
    else:
        show(session.output, done, tolerance)
    if not document["ok"]:
        raise typer.Exit(ExitCode.REFUSED)


def _aliases(texts: list[str] | tuple[()]) -> dict[str, str]:
    aliases = {}
    for text in texts:
        name, sign, billed = text.partition("=")
        if not (name and sign and billed):
            raise usage(f"--alias {text!r} must be like gemini-flash-latest=gemini-3.6-flash")
        aliases[name] = billed
    return aliases
