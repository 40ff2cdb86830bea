"""What the rules answer: an outcome for each operation, or the reason for refusing it."""

from typing import Literal

import msgspec

from credits_service.ledger.spending import LimitName
from credits_service.ledger.state import AccountState, AccountStatus, Hold, HoldStatus

NotRefundableReason = Literal["no_charge", "took_nothing", "refunded"]


class Standing(msgspec.Struct, frozen=True):
    """An account's figures after an operation.

    Attributes:
        spendable_nanos: what is available within the spend limits: the account's, and those of
            the issued key that the operation is about.
    """

    user_id: str
    balance_nanos: int
    held_nanos: int
    seq: int
    spendable_nanos: int

    @property
    def available_nanos(self) -> int:
        """Credit that no hold reserves."""
        return self.balance_nanos - self.held_nanos


class Charged(msgspec.Struct, frozen=True):
    """Credit was taken.

    Attributes:
        charged_nanos: what this transaction took.
        requested_nanos: what the caller asked for: charged, settled before and shortfall.
        settled_before_nanos: the part that the hold's expiry had charged already.
        shortfall_nanos: the part that the account could not pay.
    """

    transaction_id: str
    seq: int
    requested_nanos: int
    charged_nanos: int
    settled_before_nanos: int
    shortfall_nanos: int
    hold_id: str | None
    booked_at_micros: int
    standing: Standing


class HoldPlaced(msgspec.Struct, frozen=True):
    """A hold reserves credit."""

    hold: Hold
    standing: Standing


class HoldAnswer(msgspec.Struct, frozen=True):
    """A hold as it is after an operation on it."""

    hold: Hold
    standing: Standing


class ToppedUp(msgspec.Struct, frozen=True):
    """A lot was added."""

    transaction_id: str
    lot_id: str
    amount_nanos: int
    expires_at_micros: int | None
    reference: str | None
    booked_at_micros: int
    standing: Standing


class Refunded(msgspec.Struct, frozen=True):
    """Credit was given back to the lots that a charge took it from.

    Attributes:
        refunded_nanos: what of the charge has been given back so far.
        refundable_nanos: what of it can still be given back.
    """

    transaction_id: str
    reverses_id: str
    reason: str
    amount_nanos: int
    refunded_nanos: int
    refundable_nanos: int
    booked_at_micros: int
    standing: Standing


class AccountChanged(msgspec.Struct, frozen=True):
    """The account is as it was asked to be.

    Attributes:
        state: a copy of the account and its lots.
        now_micros: the moment at which they are so.
    """

    state: AccountState
    now_micros: int


class Settled(msgspec.Struct, frozen=True):
    """Nothing is due on the account any more."""


class Insufficient(msgspec.Struct, frozen=True):
    """The account can't pay: proven while it was locked.

    Attributes:
        retryable: whether credit that holds reserve now could pay it once they end.
        limit: the spend limit that is reached; None if credit is missing.
    """

    user_id: str
    available_nanos: int
    required_nanos: int
    retryable: bool
    limit: LimitName | None = None


class AccountRefused(msgspec.Struct, frozen=True):
    """The account is frozen or closed."""

    user_id: str
    status: AccountStatus


class HoldUnknown(msgspec.Struct, frozen=True):
    """No such hold on this account."""

    hold_id: str


class HoldEnded(msgspec.Struct, frozen=True):
    """The hold has ended."""

    hold_id: str
    status: HoldStatus


class TransactionUnknown(msgspec.Struct, frozen=True):
    """No such transaction."""

    transaction_id: str


class NotRefundable(msgspec.Struct, frozen=True):
    """There is nothing of the transaction to give back."""

    transaction_id: str
    reason: NotRefundableReason


class NotClosable(msgspec.Struct, frozen=True):
    """An account with holds, or with credit that nobody agreed to lose, can't be closed."""

    user_id: str
    balance_nanos: int
    held_nanos: int


class AccountUnknown(msgspec.Struct, frozen=True):
    """No such account."""

    user_id: str


class KeyReused(msgspec.Struct, frozen=True):
    """The idempotency key was used with another request; the field is where it was given."""

    field: str


class ReferenceUsed(msgspec.Struct, frozen=True):
    """A top-up with this reference is booked already."""

    reference: str


class Unacceptable(msgspec.Struct, frozen=True):
    """A value that only the ledger can judge is wrong."""

    field: Literal["amount", "expires_at", "key_id"]
    reason: str


Accepted = Charged | HoldPlaced | HoldAnswer | ToppedUp | Refunded | AccountChanged | Settled
Refused = (
    Insufficient
    | AccountRefused
    | AccountUnknown
    | HoldUnknown
    | HoldEnded
    | TransactionUnknown
    | NotRefundable
    | NotClosable
    | KeyReused
    | ReferenceUsed
    | Unacceptable
)
Answer = Accepted | Refused
