"""The bodies of pages, statements, batches and checks (see `wire`)."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from credits_service.api.wire import (
    AccountSummary,
    BillResponse,
    HoldBody,
    HoldResponse,
    Problem,
    RefundResponse,
    TopUpResponse,
)
from credits_service.api.wire_types import Document, Moment, Usd
from credits_service.ledger.journal import TransactionKind


class BalanceAt(msgspec.Struct):
    """What an account's balance was at a moment: the sum of what was booked until then."""

    user_id: str
    at: Moment
    balance: Usd
    seq: int


class AccountPage(msgspec.Struct):
    """A page of accounts; `next_cursor` is null on the last one."""

    accounts: list[AccountSummary]
    next_cursor: str | None


class HoldPage(msgspec.Struct):
    """A page of holds; `next_cursor` is null on the last one."""

    holds: list[HoldBody]
    next_cursor: str | None


class LotUseBody(msgspec.Struct):
    """What a transaction did to a lot."""

    lot_id: str
    amount: Usd
    from_hold: bool


class TransactionBody(msgspec.Struct):
    """One business event; `amount` is its effect on the balance."""

    transaction_id: str
    seq: int
    kind: TransactionKind
    amount: Usd
    balance_after: Usd
    held_after: Usd
    booked_at: Moment
    description: str
    hold_id: str | None
    reverses_id: str | None
    requested: Usd | None
    settled_before: Usd
    shortfall: Usd
    lots: list[LotUseBody]
    usage: Document
    price: Document
    metadata: Document
    details: Document
    request_id: str


class TransactionResponse(TransactionBody):
    """A transaction, and whose it is."""

    user_id: str


class TransactionPage(msgspec.Struct):
    """A page of transactions; `next_cursor` is null on the last one."""

    transactions: list[TransactionBody]
    next_cursor: str | None


class StatementTotals(msgspec.Struct):
    """What each kind of transaction did to the balance within the period."""

    topup: Usd
    charge: Usd
    refund: Usd
    lot_expiry: Usd
    forfeiture: Usd


class StatementResponse(msgspec.Struct):
    """A page of a statement; balances and totals are of the whole period."""

    user_id: str
    # The field is called `from`, which is no name in Python.
    from_: Moment = msgspec.field(name="from")
    to: Moment
    opening_balance: Usd
    closing_balance: Usd
    totals: StatementTotals
    transactions: list[TransactionBody]
    next_cursor: str | None


_RESULT = Meta(
    extra_json_schema={
        "anyOf": [
            {"$ref": f"#/components/schemas/{body.__name__}"}
            for body in (BillResponse, HoldResponse, TopUpResponse, RefundResponse, Problem)
        ]
    }
)


class BatchResult(msgspec.Struct):
    """What the operation's own endpoint would have answered."""

    status: int
    replayed: bool
    body: Annotated[dict[str, Any], _RESULT]


class BatchResponse(msgspec.Struct):
    """An answer for each operation, in order."""

    results: list[BatchResult]


class ViolationBody(msgspec.Struct):
    """A broken invariant."""

    invariant: str
    user_id: str | None
    detail: str


class IntegrityResponse(msgspec.Struct):
    """The result of checking every invariant over one snapshot.

    `violations` has some of each invariant, `violations_total` counts all that were found.
    """

    ok: bool
    accounts: int
    transactions: int
    violations: list[ViolationBody]
    violations_total: int
