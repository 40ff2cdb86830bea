"""What the rules answer: an outcome for each operation, or the reason for refusing it."""

from typing import Literal

import msgspec

from credits_service.ledger.state import AccountStatus, Hold, HoldStatus


class Standing(msgspec.Struct, frozen=True):
    """An account's figures after an operation."""

    user_id: str
    balance_nanos: int
    held_nanos: int
    seq: int

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


class Settled(msgspec.Struct, frozen=True):
    """Nothing is due on the account any more."""


class Insufficient(msgspec.Struct, frozen=True):
    """The account can't pay: proven while it was locked.

    Attributes:
        retryable: whether credit that holds reserve now could pay it once they end.
    """

    user_id: str
    available_nanos: int
    required_nanos: int
    retryable: bool


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


class KeyReused(msgspec.Struct, frozen=True):
    """The idempotency key was used with another request."""


class ReferenceUsed(msgspec.Struct, frozen=True):
    """A top-up with this reference is booked already."""

    reference: str


class Unacceptable(msgspec.Struct, frozen=True):
    """A value that only the ledger can judge is wrong."""

    field: Literal["amount", "expires_at"]
    reason: str


Accepted = Charged | HoldPlaced | HoldAnswer | ToppedUp | Settled
Refused = (
    Insufficient
    | AccountRefused
    | HoldUnknown
    | HoldEnded
    | KeyReused
    | ReferenceUsed
    | Unacceptable
)
Answer = Accepted | Refused
