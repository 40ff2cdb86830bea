"""The bodies of requests and responses, as msgspec types; the OpenAPI document is made of them.

Amounts come in as decimal strings or JSON numbers, parsed exactly, and go out as strings.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from credits_service.ledger.journal import TransactionKind
from credits_service.ledger.spending import LimitName
from credits_service.ledger.state import AccountStatus, HoldStatus, LotSource

# No control characters, anywhere; `[\s\S]` because a dot stops at line ends.
_NO_CONTROLS = r"^(?![\s\S]*[\x00-\x1f\x7f-\x9f])"
# PostgreSQL's text can't hold NUL.
_NO_NUL = r"^(?![\s\S]*\x00)"

Amount = Annotated[
    Decimal,
    Meta(
        description="USD, greater than 0, at most 9 fraction digits, as a string or a number.",
        examples=["0.000625"],
        extra_json_schema={"type": ["string", "number"], "format": "decimal"},
    ),
]
Usd = Annotated[str, Meta(description="USD, a decimal with up to 9 fraction digits.")]
Moment = Annotated[
    str, Meta(description="RFC 3339, UTC.", extra_json_schema={"format": "date-time"})
]
UserId = Annotated[str, Meta(min_length=1, max_length=128, pattern=_NO_CONTROLS)]
Identifier = Annotated[str, Meta(min_length=1, max_length=128, pattern=_NO_CONTROLS)]
Reference = Annotated[str, Meta(min_length=1, max_length=255, pattern=_NO_CONTROLS)]
Description = Annotated[str, Meta(max_length=1000, pattern=_NO_NUL)]
Seconds = Annotated[int, Meta(ge=1)]
# As it was stored, byte for byte.
Document = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": ["object", "null"]})]


class BillRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Take credit, at once or as the capture of a hold."""

    user_id: UserId
    amount: Amount
    description: Description = ""
    hold_id: Identifier | None = None
    final: bool = True
    usage: dict[str, Any] | None = None
    price: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class HoldRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Reserve credit for a request that is about to be served."""

    user_id: UserId
    amount: Amount
    min_amount: Amount | None = None
    ttl_s: Seconds | None = None
    request_ref: Reference | None = None
    key_id: Identifier | None = None


class HoldPatch(msgspec.Struct, forbid_unknown_fields=True):
    """Raise a hold to an amount, make it live longer from now on, report what is used so far."""

    amount: Amount | None = None
    ttl_s: Seconds | None = None
    progress: Amount | None = None


class TopUpRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Add a lot of credit; makes the account if it is new."""

    user_id: UserId
    amount: Amount
    source: LotSource = "paid"
    priority: Annotated[int, Meta(ge=0, le=1000)] = 100
    expires_at: Annotated[str, Meta(extra_json_schema={"format": "date-time"})] | None = None
    reference: Reference | None = None
    description: Description = ""


class RefundRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Give back what a charge took, or a part of it; without an amount, all that is left."""

    reason: Annotated[str, Meta(min_length=1, max_length=1000, pattern=_NO_NUL)]
    amount: Amount | None = None


class LimitsPatch(msgspec.Struct, forbid_unknown_fields=True):
    """The most that charges may take in a day or a month (UTC), or ever; null: no limit."""

    day: Amount | msgspec.UnsetType | None = msgspec.UNSET
    month: Amount | msgspec.UnsetType | None = msgspec.UNSET
    total: Amount | msgspec.UnsetType | None = msgspec.UNSET


class AccountPatch(msgspec.Struct, forbid_unknown_fields=True):
    """Change an account; what is not named stays.

    Closing is final. With credit left it needs `forfeit`, which books the rest as lost.
    """

    status: AccountStatus | None = None
    forfeit: bool = False
    limits: LimitsPatch | None = None
    low_balance: Amount | msgspec.UnsetType | None = msgspec.UNSET


class RefundResponse(msgspec.Struct):
    """A refund; `refunded` and `refundable` are the charge's sums after it."""

    transaction_id: str
    reverses_id: str
    user_id: str
    amount: Usd
    refunded: Usd
    refundable: Usd
    reason: str
    balance: Usd
    held: Usd
    available: Usd
    seq: int
    booked_at: Moment


class Nothing(msgspec.Struct):
    """There is nothing to say."""


class BillResponse(msgspec.Struct):
    """A charge: `requested` is `amount` (taken now), `settled_before` and `shortfall`."""

    transaction_id: str
    user_id: str
    amount: Usd
    requested: Usd
    settled_before: Usd
    shortfall: Usd
    balance: Usd
    held: Usd
    available: Usd
    seq: int
    hold_id: str | None
    booked_at: Moment


class HoldResponse(msgspec.Struct):
    """A hold, and its account's figures; `spendable` is what is available within the limits."""

    hold_id: str
    user_id: str
    status: HoldStatus
    amount: Usd
    captured: Usd
    progress: Usd
    request_ref: str | None
    key_id: str | None
    created_at: Moment
    expires_at: Moment
    ended_at: Moment | None
    balance: Usd
    held: Usd
    available: Usd
    spendable: Usd
    seq: int


class TopUpResponse(msgspec.Struct):
    """A new lot."""

    transaction_id: str
    lot_id: str
    user_id: str
    amount: Usd
    expires_at: Moment | None
    reference: str | None
    balance: Usd
    held: Usd
    available: Usd
    seq: int
    booked_at: Moment


class SpendLimits(msgspec.Struct):
    """The most that charges may take in a day and a month (UTC) and ever; null: no limit."""

    day: Usd | None
    month: Usd | None
    total: Usd | None


class SpentBody(msgspec.Struct):
    """What charges took today and this month (UTC) and ever."""

    day: Usd
    month: Usd
    total: Usd


class AccountSummary(msgspec.Struct):
    """An account's figures; `spendable` is what is available within the limits."""

    user_id: str
    status: AccountStatus
    unit: Literal["USD"]
    balance: Usd
    held: Usd
    available: Usd
    spendable: Usd
    shortfall: Usd
    low_balance: Usd | None
    limits: SpendLimits
    spent: SpentBody
    seq: int
    created_at: Moment
    updated_at: Moment


class LotBody(msgspec.Struct):
    """A lot with something left in it."""

    lot_id: str
    source: LotSource
    priority: int
    granted: Usd
    remaining: Usd
    held: Usd
    expires_at: Moment | None
    created_at: Moment
    reference: str | None


class AccountResponse(AccountSummary):
    """An account with its live lots, in the order in which they are used."""

    lots: list[LotBody]


class AccountPage(msgspec.Struct):
    """A page of accounts; `next_cursor` is null on the last one."""

    accounts: list[AccountSummary]
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


class TransactionPage(msgspec.Struct):
    """A page of transactions; `next_cursor` is null on the last one."""

    transactions: list[TransactionBody]
    next_cursor: str | None


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


class FieldError(msgspec.Struct):
    """Which field is wrong, and why."""

    field: str
    message: str


class Problem(msgspec.Struct):
    """An error (RFC 9457).

    402 adds `available` (what could be spent), `required`, `retryable` (waiting for running
    requests may help) and, if it is a spend limit that is reached, `limit`.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldError] | msgspec.UnsetType = msgspec.UNSET
    user_id: str | msgspec.UnsetType = msgspec.UNSET
    available: Usd | msgspec.UnsetType = msgspec.UNSET
    required: Usd | msgspec.UnsetType = msgspec.UNSET
    retryable: bool | msgspec.UnsetType = msgspec.UNSET
    limit: LimitName | msgspec.UnsetType = msgspec.UNSET
