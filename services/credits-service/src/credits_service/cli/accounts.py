"""Commands that change an account: freeze, unfreeze, close, limits."""

from typing import Annotated

import typer

from credits_service.cli.amounts import NONE, amount_or_none
from credits_service.cli.failures import Json, usage
from credits_service.cli.reports import account_facts
from credits_service.cli.service import Answer, segment
from credits_service.cli.session import JsonFlag, KeyOption, Session, UserId, YesFlag, session_of

_NoneOr = "USD, or the word none."


def freeze(
    context: typer.Context, user_id: UserId, *, key: KeyOption = None, as_json: JsonFlag = False
) -> None:
    """Freeze an account: it pays for nothing new; running requests are still charged.

    Examples:
      credits freeze ann
    """
    session = session_of(context, as_json=as_json)
    _show(session, _change(session, user_id, {"status": "frozen"}, key))


def unfreeze(
    context: typer.Context, user_id: UserId, *, key: KeyOption = None, as_json: JsonFlag = False
) -> None:
    """Open a frozen account again.

    Examples:
      credits unfreeze ann
    """
    session = session_of(context, as_json=as_json)
    _show(session, _change(session, user_id, {"status": "open"}, key))


def close(
    context: typer.Context,
    user_id: UserId,
    *,
    forfeit: Annotated[
        bool, typer.Option("--forfeit", help="Give up the credit that is left.")
    ] = False,
    yes: YesFlag = False,
    key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Close an account, for good. With credit left, only with --forfeit.

    Examples:
      credits close ann
      credits close ann --forfeit --yes
    """
    session = session_of(context, as_json=as_json)
    if not yes:
        left = session.service.read(f"/accounts/{segment(user_id)}")["balance"]
        fate = f" and give up its {left} USD" if forfeit else ""
        session.confirm(f"Close {user_id}{fate}, for good?", yes=False)
    body: Json = {"status": "closed"} | ({"forfeit": True} if forfeit else {})
    _show(session, _change(session, user_id, body, key))


def limits(
    context: typer.Context,
    user_id: UserId,
    *,
    day: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", parser=amount_or_none, help=f"A day (UTC): {_NoneOr}"),
    ] = None,
    month: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", parser=amount_or_none, help=f"A month (UTC): {_NoneOr}"),
    ] = None,
    total: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", parser=amount_or_none, help=f"Ever: {_NoneOr}"),
    ] = None,
    low_balance: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT",
            parser=amount_or_none,
            help=f"Below this the balance is reported as low: {_NoneOr}",
        ),
    ] = None,
    key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show or set how much an account may spend. What is not named stays as it is.

    Examples:
      credits limits ann
      credits limits ann --day 5 --month 100
      credits limits ann --total none --low-balance 2
    """
    session = session_of(context, as_json=as_json)
    asked = {"day": day, "month": month, "total": total}
    wanted = {name: _null(text) for name, text in asked.items() if text is not None}
    body: Json = {"limits": wanted} if wanted else {}
    body |= {"low_balance": _null(low_balance)} if low_balance is not None else {}
    if body:
        _show(session, _change(session, user_id, body, key))
        return
    if key is not None:
        raise usage("There is nothing to repeat: no limit is named.")
    account = session.service.read(f"/accounts/{segment(user_id)}")
    if session.as_json:
        shown = ("user_id", "limits", "spent", "low_balance", "spendable")
        session.output.document({name: account[name] for name in shown})
    else:
        account_facts(session, account)


def _null(text: str) -> str | None:
    return None if text == NONE else text


def _change(session: Session, user_id: str, body: Json, key: str | None) -> Answer:
    return session.change("PATCH", f"/accounts/{segment(user_id)}", body, key)


def _show(session: Session, answer: Answer) -> None:
    if session.as_json:
        session.output.document(answer.document())
    else:
        account_facts(session, answer.body)
