"""The bodies of what operations answer, accounts and problems, as msgspec types.

The OpenAPI document is made of these types, `wire_requests` and `wire_reads`.
"""

from typing import Literal

import msgspec

from credits_service.api.wire_types import Moment, Usd
from credits_service.ledger.spending import LimitName
from credits_service.ledger.state import AccountStatus, HoldStatus, LotSource


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


class HoldBody(msgspec.Struct):
    """A hold."""

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


class HoldResponse(HoldBody):
    """A hold, and its account's figures.

    `spendable` is what is available within the limits of the account and of the hold's key.
    """

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


class RenewalBody(msgspec.Struct):
    """When the limits of a day and a month begin anew (UTC)."""

    day: Moment
    month: Moment


class KeyStanding(msgspec.Struct):
    """What charges took for an issued key, what its holds reserve, and what it may spend.

    `spendable` is what a hold that names the key could take now, within its limits and those of
    the account; `limited_by` as the account's, `key_day`, `key_month` or `key_total` for the key's.
    """

    key_id: str
    limits: SpendLimits
    spent: SpentBody
    held: Usd
    spendable: Usd
    limited_by: LimitName | None


class AccountSummary(msgspec.Struct):
    """An account's figures; `spendable` is what is available within the limits.

    `limited_by` is the limit that allows no more: `day`, `month` or `total`; null if it is the
    credit itself.
    """

    user_id: str
    status: AccountStatus
    unit: Literal["USD"]
    balance: Usd
    held: Usd
    available: Usd
    spendable: Usd
    limited_by: LimitName | None
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
    """An account with its live lots, in the order in which they are used.

    `key` is there if `key_id` asked for it.
    """

    lots: list[LotBody]
    renews_at: RenewalBody
    key: KeyStanding | msgspec.UnsetType = msgspec.UNSET


class FieldError(msgspec.Struct):
    """Which field is wrong, and why."""

    field: str
    message: str


class Problem(msgspec.Struct):
    """An error (RFC 9457).

    402 adds `available` (what could be spent), `required`, `retryable` (waiting for running
    requests may help) and, if it is a spend limit that is reached, `limit`: the account's `day`,
    `month` or `total`, or `key_day`, `key_month` or `key_total` of the issued key. Where the header
    `Retry-After` says when to try again, `retry_after_seconds` does as well: items of a batch
    have no headers. What is missing, ended, used or in the way is named by its id; an account that
    can't be closed tells its `balance` and what of it is `held`.
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
    hold_id: str | msgspec.UnsetType = msgspec.UNSET
    hold_status: HoldStatus | msgspec.UnsetType = msgspec.UNSET
    transaction_id: str | msgspec.UnsetType = msgspec.UNSET
    key_id: str | msgspec.UnsetType = msgspec.UNSET
    reference: str | msgspec.UnsetType = msgspec.UNSET
    balance: Usd | msgspec.UnsetType = msgspec.UNSET
    held: Usd | msgspec.UnsetType = msgspec.UNSET
    retry_after_seconds: int | msgspec.UnsetType = msgspec.UNSET
