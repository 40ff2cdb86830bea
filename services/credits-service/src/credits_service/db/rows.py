"""How the rules' values and the tables' rows become one another.

Each type's fields are called what its table's columns are called, in the same order; only
lists of lots are kept as JSON text.
"""

from typing import Any, Final

import msgspec

from credits_service.ledger.events import Event
from credits_service.ledger.journal import Entry, LotUse, Transaction
from credits_service.ledger.state import Account, Hold, KeySpending, Lot, LotPart

ACCOUNT: Final = Account.__struct_fields__
LOT: Final = Lot.__struct_fields__
HOLD: Final = Hold.__struct_fields__
KEY_SPENDING: Final = KeySpending.__struct_fields__
TRANSACTION: Final = Transaction.__struct_fields__
ENTRY: Final = Entry.__struct_fields__
EVENT: Final = Event._fields
IDEMPOTENCY_KEY: Final = ("scope", "key", "fingerprint", "status", "body", "created_at_micros")

# What of a row can change, after its key.
ACCOUNT_CHANGES: Final = (
    "user_id",
    "status",
    "balance_nanos",
    "held_nanos",
    "shortfall_nanos",
    "seq",
    "head_hash",
    "updated_at_micros",
    "low_balance_nanos",
    "limit_day_nanos",
    "limit_month_nanos",
    "limit_total_nanos",
    "spent_total_nanos",
    "spent_day_nanos",
    "spent_month_nanos",
    "spent_at_micros",
)
LOT_CHANGES: Final = ("id", "remaining_nanos", "held_nanos")
HOLD_CHANGES: Final = (
    "id",
    "status",
    "amount_nanos",
    "captured_nanos",
    "progress_nanos",
    "settled_nanos",
    "used_nanos",
    "lots",
    "late_captured",
    "updated_at_micros",
    "expires_at_micros",
    "ended_at_micros",
)
KEY_SPENDING_CHANGES: Final = (
    "key_id",
    "held_nanos",
    "spent_total_nanos",
    "spent_day_nanos",
    "spent_month_nanos",
    "spent_at_micros",
)

_HOLD_LOTS = HOLD.index("lots")
_TRANSACTION_LOTS = TRANSACTION.index("lots")
_encode = msgspec.json.Encoder().encode
_parts = msgspec.json.Decoder(tuple[LotPart, ...]).decode
_uses = msgspec.json.Decoder(tuple[LotUse, ...]).decode


def account_from(row: Any) -> Account:
    """Read an account from the columns `ACCOUNT`."""
    return Account(*row)


def lot_from(row: Any) -> Lot:
    """Read a lot from the columns `LOT`."""
    return Lot(*row)


def hold_from(row: Any) -> Hold:
    """Read a hold from the columns `HOLD`."""
    hold = Hold(*row)
    hold.lots = _parts(row[_HOLD_LOTS])
    return hold


def key_spending_from(row: Any) -> KeySpending:
    """Read what a key may spend and has spent from the columns `KEY_SPENDING`."""
    return KeySpending(*row)


def transaction_from(row: Any) -> Transaction:
    """Read a transaction from the columns `TRANSACTION`."""
    values = list(row)
    values[_TRANSACTION_LOTS] = _uses(values[_TRANSACTION_LOTS])
    return Transaction(*values)


def to_row(value: msgspec.Struct, names: tuple[str, ...]) -> tuple[Any, ...]:
    """Write the named fields as a row."""
    return tuple(
        _encode(getattr(value, name)).decode() if name == "lots" else getattr(value, name)
        for name in names
    )


def transaction_row(transaction: Transaction) -> tuple[Any, ...]:
    """Write all of a transaction as a row: the busiest path, hence a way of its own."""
    values = msgspec.structs.astuple(transaction)
    lots = _encode(transaction.lots).decode()
    return (*values[:_TRANSACTION_LOTS], lots, *values[_TRANSACTION_LOTS + 1 :])
