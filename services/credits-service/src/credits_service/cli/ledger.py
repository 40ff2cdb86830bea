"""Commands that work on the ledger's database itself: verify, migrate, migrate-to, export."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from credits_service.cli.failures import ExitCode, usage
from credits_service.cli.session import JsonFlag, YesFlag, session_of

# The database's libraries take half a second to load. Only these commands need them, so they
# load them when they run (PLC0415 below).

Format = Literal["jsonl", "csv"]


def verify(
    context: typer.Context,
    user: Annotated[
        list[str] | None,
        typer.Option("--user", metavar="USER_ID", help="Check only this account; repeatable."),
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Check every invariant of the ledger, from its database.

    Recomputes balances, lots, holds and the hash chain from the journal. The service may run
    meanwhile. Ends with 1 if something is wrong.

    Examples:
      credits verify
      credits verify --user ann --user bob
      credits --json verify | jq .violations
    """
    from credits_service.cli.ledger_work import verified  # noqa: PLC0415 - see above

    session = session_of(context, as_json=as_json)
    found = verified(session, user or None)
    if session.as_json:
        session.output.document(
            {
                "ok": not found.violations,
                "accounts": found.accounts,
                "transactions": found.transactions,
                "violations": [violation._asdict() for violation in found.violations],
                "violations_total": found.violations_total,
            }
        )
    else:
        if found.violations:
            rows = [violation._asdict() for violation in found.violations]
            session.output.table(list(rows[0]), (list(row.values()) for row in rows))
        session.output.line(
            f"{found.accounts:,} accounts, {found.transactions:,} transactions checked: "
            f"{f'{found.violations_total:,} violations' if found.violations else 'all is well'}"
        )
    if found.violations:
        raise typer.Exit(ExitCode.REFUSED)


def migrate_schema(context: typer.Context, *, as_json: JsonFlag = False) -> None:
    """Bring the ledger's schema to what this version needs.

    The service does the same when it starts. An embedded ledger must not be in use.

    Examples:
      credits migrate
      DATABASE_URL=postgresql://… credits migrate
    """
    from credits_service.cli.ledger_work import migrated  # noqa: PLC0415 - see above

    session = session_of(context, as_json=as_json)
    before, after = migrated()
    if session.as_json:
        session.output.document({"from": before, "to": after})
    elif before == after:
        session.output.line(f"The ledger has schema {after} already.")
    else:
        session.output.line(f"Migrated from schema {before or 'none'} to {after}.")


def migrate_to(context: typer.Context, *, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """Move an embedded ledger (SQLite) into an empty PostgreSQL database.

    The target is TARGET_DATABASE_URL, from the environment or .env: a password does not belong
    on a command line. End the service first. Everything is copied and checked (each row, each
    invariant) in one transaction: if anything fails, the target stays empty. The source is
    left as it is.

    Examples:
      TARGET_DATABASE_URL=postgresql://credits:…@db:5432/credits credits migrate-to
      credits migrate-to --yes --json
    """
    from credits_service.cli.ledger_work import moved  # noqa: PLC0415 - see above

    session = session_of(context, as_json=as_json)
    done = moved(session, yes=yes)
    rows, checked = done.transfer
    if session.as_json:
        session.output.document(
            {
                "source": done.source,
                "target": done.target,
                "rows": rows,
                "accounts": checked.accounts,
                "transactions": checked.transactions,
                "violations": [],
            }
        )
        return
    session.output.table(["table", "rows"], rows.items(), right=frozenset({"rows"}))
    session.output.line(
        f"Moved to {done.target}. Every row is equal there, head hashes included, and every "
        f"invariant holds: {checked.accounts:,} accounts, {checked.transactions:,} transactions."
    )
    session.output.line(
        "To switch over: set DATABASE_URL to what TARGET_DATABASE_URL is, start the service. Keep "
        f"{done.source} as it is, and never start a service on it again."
    )


def export_journal(
    context: typer.Context,
    user_id: Annotated[
        str | None, typer.Argument(metavar="USER_ID", help="Only this account.")
    ] = None,
    *,
    form: Annotated[
        Format, typer.Option("--format", help="jsonl: an object a line; csv: with a header.")
    ] = "jsonl",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A new file; without it, standard output."),
    ] = None,
    keys: Annotated[
        bool,
        typer.Option("--keys", help="Issued keys and what happened to them, not the journal."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write the journal, transaction by transaction, from the ledger's database.

    Each line says all that its hash covers, so anybody can recompute the ledger from it. The
    count and the SHA-256 of what was written are told at the end, on standard error unless
    there is an output file. A file appears under its name only when it is complete.

    The CSV is exact as well: texts stand in it as they were booked, and a spreadsheet takes
    one that begins with = + - or @ for a formula. Import every column as text there, or use
    `credits statement --csv`, whose texts are guarded.

    Examples:
      credits export --output ledger.jsonl
      credits export ann --format csv > ann.csv
      credits export --keys --output keys.jsonl
    """
    from credits_service.cli.ledger_work import exported, exported_keys  # noqa: PLC0415 - see above

    session = session_of(context, as_json=as_json)
    if keys and form != "jsonl":
        raise usage("Keys are written as jsonl only.")
    done = (
        exported_keys(session, output, user_id)
        if keys
        else exported(session, output, form, user_id)
    )
    if session.as_json and output is not None:
        session.output.document({**done._asdict(), "file": str(output)})
        return
    written = done._asdict()
    what = (
        f"{written['keys']:,} keys with {written['events']:,} events"
        if keys
        else f"{written['transactions']:,} transactions of {written['accounts']:,} accounts"
    )
    said = f"{what}, sha256 {done.sha256}"
    (session.output.note if output is None else session.output.line)(said)
