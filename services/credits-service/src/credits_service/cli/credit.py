"""Commands that move money: topup, refund."""

from typing import Annotated, Literal

import typer

from credits_service.cli.amounts import amount as usd
from credits_service.cli.service import Answer, segment
from credits_service.cli.session import JsonFlag, KeyOption, Session, UserId, session_of

Source = Literal["paid", "promo", "adjustment"]


def topup(
    context: typer.Context,
    user_id: UserId,
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT", help="USD, such as 25 or 0.5.", parser=usd)
    ],
    *,
    source: Annotated[Source, typer.Option(help="Where the credit comes from.")] = "paid",
    priority: Annotated[
        int, typer.Option(min=0, max=1000, help="Lots with a lower number are used first.")
    ] = 100,
    expires_at: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="RFC 3339: 2027-01-01T00:00:00Z.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Your id of the payment; accepted only once.")
    ] = None,
    description: Annotated[str, typer.Option(help="For the statement.")] = "",
    key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Add credit to an account, which is made if it is new.

    Examples:
      credits topup ann 25 --reference pay_8812
      credits topup ann 5 --source promo --priority 10 --expires-at 2027-01-01T00:00:00Z
    """
    session = session_of(context, as_json=as_json)
    body = {
        "user_id": user_id,
        "amount": amount,
        "source": source,
        "priority": priority,
        "description": description,
    }
    body |= {"expires_at": expires_at} if expires_at is not None else {}
    body |= {"reference": reference} if reference is not None else {}
    _show(session, session.change("POST", "/topup", body, key), "Topped up")


def refund(
    context: typer.Context,
    transaction_id: Annotated[
        str, typer.Argument(metavar="TRANSACTION_ID", help="The charge.", show_default=False)
    ],
    *,
    reason: Annotated[str, typer.Option(help="Why, for the statement.", show_default=False)],
    amount: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT", help="USD; without it, all that is left of the charge.", parser=usd
        ),
    ] = None,
    key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Give back a charge, or a part of it, to the lots that it came from.

    Examples:
      credits refund 0198c0de-0000-7000-8000-000000000000 --reason "wrong model"
      credits refund 0198c0de-0000-7000-8000-000000000000 --amount 0.25 --reason goodwill
    """
    session = session_of(context, as_json=as_json)
    body = {"reason": reason} | ({"amount": amount} if amount is not None else {})
    path = f"/transactions/{segment(transaction_id)}/refund"
    _show(session, session.change("POST", path, body, key), "Refunded")


def _show(session: Session, answer: Answer, done: str) -> None:
    if session.as_json:
        session.output.document(answer.document())
        return
    body = answer.body
    again = " (done before, under this key)" if answer.replayed else ""
    named = ("transaction_id", "balance", "held", "available", "refunded", "refundable")
    facts = [(name, body[name]) for name in named if name in body]
    session.output.facts(
        f"{done} {body['amount']} USD: {body['user_id']}{again}",
        [*facts, ("idempotency_key", answer.key)],
    )
