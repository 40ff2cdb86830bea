"""What must be true of the counters of an account's issued keys. Pure."""

from collections.abc import Iterable, Sequence

import msgspec

from credits_service.ledger.journal import Transaction
from credits_service.ledger.spending import count_spent
from credits_service.ledger.state import Hold, KeySpending
from credits_service.ledger.violations import Violations

_COUNTERS = (
    "held_nanos",
    "spent_total_nanos",
    "spent_day_nanos",
    "spent_month_nanos",
    "spent_at_micros",
)


class _Details(msgspec.Struct):
    """What the details of a charge say of its key."""

    key_id: str | None = None


_decode = msgspec.json.Decoder(_Details).decode


class KeyAudit:
    """Counts anew what each key has spent and reserves, from the charges and the holds.

    Args:
        keys: all keys of one account, with the counters as they are stored.
        violations: where what is wrong is noted.
    """

    def __init__(self, keys: Iterable[KeySpending], violations: Violations) -> None:
        self._stored = {key.key_id: key for key in keys}
        self._folded = {
            key_id: KeySpending(key_id, key.user_id) for key_id, key in self._stored.items()
        }
        self._violations = violations

    def charge(self, transaction: Transaction) -> None:
        """Take the account's next charge."""
        key_id = _key_of(transaction)
        if key_id is None:
            return
        key = self._folded.get(key_id)
        self._violations.require("23 a key of the account", key is not None, transaction)
        if key is not None and transaction.amount_nanos:
            count_spent(key, -transaction.amount_nanos, transaction.booked_at_micros)

    def hold(self, hold: Hold, captures: Sequence[Transaction]) -> None:
        """Take one of the account's holds with the charges on it."""
        key = None if hold.key_id is None else self._folded.get(hold.key_id)
        if key is not None:
            key.held_nanos += hold.uncaptured_nanos
        # What holds named before there were issued keys is no key, and their charges name none.
        key_id = None if key is None else key.key_id
        for capture in captures:
            as_held = _key_of(capture) == key_id
            self._violations.require("23 a charge counts for its hold's key", as_held, capture)

    def finish(self) -> None:
        """Compare what was counted with what is stored."""
        for key_id, stored in self._stored.items():
            folded, row = self._folded[key_id], f"key {key_id}"
            for name in _COUNTERS:
                self._violations.expect(
                    f"23 {name} of a key", getattr(folded, name), getattr(stored, name), row
                )


def _key_of(charge: Transaction) -> str | None:
    """Return the key that a charge names; details that can't be read are told of elsewhere."""
    if charge.details is None:
        return None
    try:
        return _decode(charge.details).key_id
    except msgspec.DecodeError:
        return None
