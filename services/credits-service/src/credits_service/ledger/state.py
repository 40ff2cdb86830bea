"""What the rules read and change: accounts with their lots and holds.

Amounts are nano-USD (`_nanos`), moments microseconds since 1970 (`_micros`).
"""

from typing import Final, Literal, NamedTuple

import msgspec

AccountStatus = Literal["open", "frozen", "closed"]
HoldStatus = Literal["active", "captured", "released", "expired"]
LotSource = Literal["paid", "promo", "adjustment"]

GENESIS_HASH: Final = bytes(32)


class LotPart(NamedTuple):
    """A part of a lot that a hold has reserved."""

    lot_id: str
    nanos: int


class Account(msgspec.Struct):
    """One user's credit.

    Attributes:
        balance_nanos: sum of the account's entries.
        held_nanos: the part of it that active holds reserve.
        shortfall_nanos: what was used but could not be paid, over the account's life.
        seq: number of the last transaction; 0 before the first.
        head_hash: hash of the last transaction.
        low_balance_nanos: below this a balance is reported as low; None means the default.
        limit_day_nanos: the most that charges may take in a day (UTC); so `limit_month_nanos`
            in a month and `limit_total_nanos` ever. None means no limit.
        spent_total_nanos: what charges have taken, over the account's life.
        spent_day_nanos: what they took on the day of `spent_at_micros`; so `spent_month_nanos`.
        spent_at_micros: moment of the last charge that was counted.
    """

    user_id: str
    status: AccountStatus
    balance_nanos: int
    held_nanos: int
    shortfall_nanos: int
    seq: int
    head_hash: bytes
    created_at_micros: int
    updated_at_micros: int
    low_balance_nanos: int | None = None
    limit_day_nanos: int | None = None
    limit_month_nanos: int | None = None
    limit_total_nanos: int | None = None
    spent_total_nanos: int = 0
    spent_day_nanos: int = 0
    spent_month_nanos: int = 0
    spent_at_micros: int = 0

    @property
    def available_nanos(self) -> int:
        """Credit that no hold reserves."""
        return self.balance_nanos - self.held_nanos


class KeySpending(msgspec.Struct):
    """What an issued key may spend, what it has spent, and what its holds reserve.

    Attributes:
        user_id: the account that it belongs to.
        limit_day_nanos: as an account's, of the key's own charges; so the other limits.
        held_nanos: what active holds of the key reserve.
        spent_total_nanos: as an account's; so the other counters.
    """

    key_id: str
    user_id: str
    limit_day_nanos: int | None = None
    limit_month_nanos: int | None = None
    limit_total_nanos: int | None = None
    held_nanos: int = 0
    spent_total_nanos: int = 0
    spent_day_nanos: int = 0
    spent_month_nanos: int = 0
    spent_at_micros: int = 0


class Lot(msgspec.Struct):
    """A top-up or grant, used up before or after others as its priority and expiry say."""

    id: str
    user_id: str
    source: LotSource
    priority: int
    granted_nanos: int
    remaining_nanos: int
    held_nanos: int
    expires_at_micros: int | None
    created_at_micros: int
    reference: str | None

    @property
    def free_nanos(self) -> int:
        """What is left of it and not reserved."""
        return self.remaining_nanos - self.held_nanos


class Hold(msgspec.Struct):
    """An authorisation: credit reserved for a request that is being served.

    Attributes:
        captured_nanos: what has been charged from it; the rest is `uncaptured_nanos`.
        progress_nanos: what the request has used so far, as last reported.
        settled_nanos: what its expiry settled and no late capture has been set against yet.
        used_nanos: what its captures were asked to charge so far, paid or not.
        lots: where the uncaptured rest is reserved.
        late_captured: whether its final capture came after it had expired.
        key_id: the issued key that it counts for; in old ledgers any note of the caller.
    """

    id: str
    user_id: str
    status: HoldStatus
    amount_nanos: int
    captured_nanos: int
    progress_nanos: int
    settled_nanos: int
    used_nanos: int
    lots: tuple[LotPart, ...]
    late_captured: bool
    request_ref: str | None
    key_id: str | None
    created_at_micros: int
    updated_at_micros: int
    expires_at_micros: int
    ended_at_micros: int | None

    @property
    def uncaptured_nanos(self) -> int:
        """What it still reserves; nothing once it has ended."""
        return self.amount_nanos - self.captured_nanos if self.status == "active" else 0


class AccountState:
    """An account with the lots, holds and keys that a batch may touch.

    Attributes:
        lots: those with something left in them, and those that a refund gives back to.
        holds: those that are due, and those that a command names.
        keys: the account's issued keys that a command or one of the holds names.
    """

    __slots__ = ("account", "holds", "keys", "lots")

    def __init__(
        self,
        account: Account,
        lots: dict[str, Lot] | None = None,
        holds: dict[str, Hold] | None = None,
        keys: dict[str, KeySpending] | None = None,
    ) -> None:
        self.account = account
        self.lots = lots if lots is not None else {}
        self.holds = holds if holds is not None else {}
        self.keys = keys if keys is not None else {}

    def key(self, key_id: str | None) -> KeySpending | None:
        """Return one of the account's keys; None if it is not there, or none is named."""
        return None if key_id is None else self.keys.get(key_id)

    def copy(self) -> "AccountState":
        """Return a copy that can be changed on its own."""
        return AccountState(
            msgspec.structs.replace(self.account),
            {lot_id: msgspec.structs.replace(lot) for lot_id, lot in self.lots.items()},
            {hold_id: msgspec.structs.replace(hold) for hold_id, hold in self.holds.items()},
            {key_id: msgspec.structs.replace(key) for key_id, key in self.keys.items()},
        )
