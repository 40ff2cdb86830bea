"""Commands that show something: balance, transactions, statement, holds."""

import sys
from collections.abc import Iterable
from typing import Annotated, Literal

import typer

from credits_service.cli.failures import Json, usage
from credits_service.cli.service import segment
from credits_service.cli.session import JsonFlag, Session, UserId, session_of

Kind = Literal["topup", "charge", "refund", "lot_expiry", "forfeiture", "account_change"]
HoldStatus = Literal["active", "captured", "released", "expired"]

AllFlag = Annotated[bool, typer.Option("--all", help="All of them, not only the first page.")]
PageLimit = Annotated[int, typer.Option(min=1, max=500, help="How many at most.")]
Moment = "RFC 3339, such as 2026-11-01T00:00:00Z"

_PAGE_MAX = 500
_FIGURES = frozenset(
    {"amount", "balance", "held", "available", "captured", "granted", "remaining", "seq"}
)


def balance(
    context: typer.Context,
    user_id: Annotated[
        str | None, typer.Argument(metavar="USER_ID", help="The account; without it, all.")
    ] = None,
    *,
    at: Annotated[
        str | None, typer.Option("--at", metavar="MOMENT", help=f"As it was then: {Moment}.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show an account's credit, or list all accounts.

    Examples:
      credits balance ann
      credits balance ann --at 2026-11-01T00:00:00Z
      credits balance
    """
    session = session_of(context, as_json=as_json)
    if user_id is None:
        if at is not None:
            raise usage("--at needs an account: credits balance USER_ID --at MOMENT")
        found = pages(session, "/accounts", "accounts", {}, limit=None)
        show_rows(session, found, "accounts", ("user_id", "status", "balance", "held", "available"))
        return
    account = session.service.read(f"/accounts/{segment(user_id)}", {"at": at})
    if session.as_json:
        session.output.document(account)
    elif at is not None:
        session.output.facts(
            account["user_id"], [(n, account[n]) for n in ("at", "balance", "seq")]
        )
    else:
        account_facts(session, account)


def account_facts(session: Session, account: Json) -> None:
    """Show an account's figures and its lots."""
    plain = ("status", "balance", "held", "available", "spendable", "shortfall", "low_balance")
    facts = [(name, account[name]) for name in plain]
    for window in ("day", "month", "total"):
        limit = account["limits"][window]
        spent = f"{account['spent'][window]} of {'no limit' if limit is None else limit}"
        facts.append((f"spent ({window})", spent))
    session.output.facts(f"{account['user_id']} (USD)", facts)
    if account.get("lots"):
        names = ("source", "priority", "granted", "remaining", "held", "expires_at", "reference")
        session.output.line("")
        _table(session, account["lots"], names)


def transactions(
    context: typer.Context,
    user_id: UserId,
    *,
    kind: Annotated[Kind | None, typer.Option(help="Only these.")] = None,
    limit: PageLimit = 50,
    everything: AllFlag = False,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Not newest first.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List an account's transactions.

    Examples:
      credits transactions ann
      credits transactions ann --kind charge --limit 10
      credits --json transactions ann --all
    """
    session = session_of(context, as_json=as_json)
    params = {"kind": kind, "order": "asc" if oldest_first else "desc"}
    path = f"/accounts/{segment(user_id)}/transactions"
    found = pages(session, path, "transactions", params, limit=None if everything else limit)
    show_rows(session, found, "transactions", _TRANSACTION)


_TRANSACTION = (
    "seq",
    "booked_at",
    "kind",
    "amount",
    "balance_after",
    "transaction_id",
    "description",
)


def statement(
    context: typer.Context,
    user_id: UserId,
    *,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="MOMENT", help=f"From then on: {Moment}. [this month]"),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="MOMENT", help="Before then. [this month]")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, on standard output.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show an account's statement of a period; without one, of this month (UTC).

    Examples:
      credits statement ann
      credits statement ann --from 2026-10-01T00:00:00Z --to 2026-11-01T00:00:00Z
      credits statement ann --csv > ann.csv
    """
    session = session_of(context, as_json=as_json)
    path = f"/accounts/{segment(user_id)}/statement"
    params = {"from": start, "to": end}
    if as_csv:
        if session.as_json:
            raise usage("--csv and --json exclude each other.")
        for piece in session.service.stream(path, {**params, "format": "csv"}):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    found = pages(session, path, "transactions", params, limit=None)
    if session.as_json:
        session.output.document(found)
        return
    totals = ((name, total) for name, total in found["totals"].items())
    session.output.facts(
        f"{found['user_id']} (USD), from {found['from']} to {found['to']}",
        [
            ("opening balance", found["opening_balance"]),
            *totals,
            ("closing balance", found["closing_balance"]),
        ],
    )
    session.output.line("")
    _table(session, found["transactions"], _TRANSACTION)


def holds(
    context: typer.Context,
    user_id: UserId,
    *,
    status: Annotated[HoldStatus | None, typer.Option(help="Only these.")] = None,
    limit: PageLimit = 50,
    everything: AllFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List an account's holds, newest first.

    Examples:
      credits holds ann --status active
    """
    session = session_of(context, as_json=as_json)
    found = pages(
        session,
        f"/accounts/{segment(user_id)}/holds",
        "holds",
        {"status": status},
        limit=None if everything else limit,
    )
    columns = ("hold_id", "status", "amount", "captured", "created_at", "expires_at", "request_ref")
    show_rows(session, found, "holds", columns)


def pages(
    session: Session,
    path: str,
    name: str,
    params: dict[str, str | None],
    *,
    limit: int | None,
) -> Json:
    """Read a page, or all if there is no limit; return the last one with all items.

    What else it says was true when it was read, and that is after all the others.
    """
    size = _PAGE_MAX if limit is None else limit
    page = session.service.read(path, {**params, "limit": size})
    items = list(page[name])
    # A period that was not given must not move on between two pages.
    params |= {edge: page[edge] for edge in ("from", "to") if edge in page}
    with session.output.progress() as report:
        while limit is None and page["next_cursor"] is not None:
            following = {**params, "limit": size, "cursor": page["next_cursor"]}
            page = session.service.read(path, following)
            items += page[name]
            report(f"reading {name}", len(items), None)
    return {**page, name: items}


def show_rows(session: Session, found: Json, name: str, columns: tuple[str, ...]) -> None:
    """Show a page as a table, or as the document that a script gets."""
    if session.as_json:
        session.output.document(found)
        return
    _table(session, found[name], columns)
    if found["next_cursor"] is not None:
        session.output.note("There are more: --all shows all.")


def _table(session: Session, items: Iterable[Json], columns: tuple[str, ...]) -> None:
    rows = [[item[name] for name in columns] for item in items]
    figures = _FIGURES | {"balance_after"}
    session.output.table(columns, rows, right=frozenset(figures))
