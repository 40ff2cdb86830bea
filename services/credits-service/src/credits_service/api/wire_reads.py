"""The bodies of statements, pages of holds and batches (see `wire`)."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from credits_service.api.wire import Moment, TransactionBody, Usd
from credits_service.ledger.state import HoldStatus

MAX_OPERATIONS = 500
_OBJECT = Meta(extra_json_schema={"type": "object"})
_ITEM = Meta(extra_json_schema={"$ref": "#/components/schemas/BatchItem"})


class BalanceAt(msgspec.Struct):
    """What an account's balance was at a moment: the sum of what was booked until then."""

    user_id: str
    at: Moment
    balance: Usd
    seq: int


class TransactionResponse(TransactionBody):
    """A transaction, and whose it is."""

    user_id: str


class HoldBody(msgspec.Struct):
    """A hold."""

    hold_id: str
    status: HoldStatus
    amount: Usd
    captured: Usd
    progress: Usd
    request_ref: str | None
    key_id: str | None
    created_at: Moment
    expires_at: Moment
    ended_at: Moment | None


class HoldPage(msgspec.Struct):
    """A page of holds; `next_cursor` is null on the last one."""

    holds: list[HoldBody]
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


class BatchItem(msgspec.Struct, forbid_unknown_fields=True):
    """One operation: `body` is what its own endpoint takes, the id what that has in its path."""

    op: Literal["bill", "hold", "amend_hold", "release_hold", "topup", "refund"]
    idempotency_key: str | None = None
    hold_id: str | None = None
    transaction_id: str | None = None
    body: Annotated[msgspec.Raw, _OBJECT] | msgspec.UnsetType = msgspec.UNSET


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Operations that have nothing to do with each other; each is checked by itself."""

    operations: Annotated[
        list[Annotated[msgspec.Raw, _ITEM]], Meta(min_length=1, max_length=MAX_OPERATIONS)
    ]


class BatchResult(msgspec.Struct):
    """What the operation's own endpoint would have answered."""

    status: int
    replayed: bool
    body: dict[str, Any]


class BatchResponse(msgspec.Struct):
    """An answer for each operation, in order."""

    results: list[BatchResult]
