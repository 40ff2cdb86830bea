"""What a comparison of the usage log with the ledger finds."""

from enum import StrEnum
from typing import Any

import msgspec

from credits_service.core.moments import rfc3339
from credits_service.core.money import usd_from_nanos


class Kind(StrEnum):
    """What was found, and what it means.

    Those in `DIFFERENCES` are wrong; the others are told apart, as both sides say the same.
    """

    NOT_IN_LEDGER = "not_in_ledger"
    NOT_IN_LOG = "not_in_log"
    AMOUNT_DIFFERS = "amount_differs"
    PAID_DIFFERS = "paid_differs"
    SHORTFALL_DIFFERS = "shortfall_differs"
    EXACT_COST_DIFFERS = "exact_cost_differs"
    USAGE_DIFFERS = "usage_differs"
    ACCOUNT_DIFFERS = "account_differs"
    STATUS_DIFFERS = "status_differs"
    TWICE_IN_LEDGER = "twice_in_ledger"
    TWICE_IN_LOG = "twice_in_log"
    NOT_RECOMPUTABLE = "not_recomputable"
    PENDING = "pending"
    REFUSED = "refused"
    NOT_BILLED = "not_billed"
    SHORTFALL = "shortfall"
    EXPIRED_HOLD = "expired_hold"
    BEGAN_BEFORE_LOG = "began_before_log"

    @property
    def is_difference(self) -> bool:
        """Whether log and ledger do not agree."""
        return self in DIFFERENCES

    @property
    def meaning(self) -> str:
        """What people are told."""
        return _MEANINGS[self]


DIFFERENCES = frozenset(
    {
        Kind.NOT_IN_LEDGER,
        Kind.NOT_IN_LOG,
        Kind.AMOUNT_DIFFERS,
        Kind.PAID_DIFFERS,
        Kind.SHORTFALL_DIFFERS,
        Kind.EXACT_COST_DIFFERS,
        Kind.USAGE_DIFFERS,
        Kind.ACCOUNT_DIFFERS,
        Kind.STATUS_DIFFERS,
        Kind.TWICE_IN_LEDGER,
        Kind.TWICE_IN_LOG,
        Kind.NOT_RECOMPUTABLE,
    }
)

_MEANINGS = {
    Kind.NOT_IN_LEDGER: "in the log, but not charged in the ledger",
    Kind.NOT_IN_LOG: "charged in the ledger, but not in the log",
    Kind.AMOUNT_DIFFERS: "log and ledger say different amounts",
    Kind.PAID_DIFFERS: "log and ledger say different things about what was paid",
    Kind.SHORTFALL_DIFFERS: "log and ledger say different shortfalls",
    Kind.EXACT_COST_DIFFERS: "log and ledger say different exact costs (pico-USD)",
    Kind.USAGE_DIFFERS: "log and ledger say different counts",
    Kind.ACCOUNT_DIFFERS: "charged to another account than the log says",
    Kind.STATUS_DIFFERS: "charged, though the log says that it was not",
    Kind.TWICE_IN_LEDGER: "charged more than once",
    Kind.TWICE_IN_LOG: "several records that contradict each other",
    Kind.NOT_RECOMPUTABLE: "the amount does not follow from the items",
    Kind.PENDING: "waits in the proxy's outbox",
    Kind.REFUSED: "the ledger refused it for good: served, never charged",
    Kind.NOT_BILLED: "no credits service was configured: served, never charged",
    Kind.SHORTFALL: "the account could not pay all of it",
    Kind.EXPIRED_HOLD: "charged from a hold whose request never settled",
    Kind.BEGAN_BEFORE_LOG: "charged, but began before the log given does",
}


class Finding(msgspec.Struct, frozen=True):
    """One thing found.

    Attributes:
        kind: what.
        key: the billing key, None for a hold that nothing is known of.
        in_log: the log's value.
        in_ledger: the ledger's value.
        nanos: how much money it is about, in nano-USD.
        at_micros: when the completion ended, or when it was booked if the log does not tell.
    """

    kind: Kind
    at_micros: int
    account: str
    nanos: int
    key: str | None = None
    completion_id: str | None = None
    request_id: str | None = None
    transaction_id: str | None = None
    hold_id: str | None = None
    in_log: str | None = None
    in_ledger: str | None = None

    def document(self) -> dict[str, Any]:
        """Return what scripts get: moments and money as the API writes them."""
        known = msgspec.structs.asdict(self)
        at_micros, nanos = known.pop("at_micros"), known.pop("nanos")
        return {
            **{name: value for name, value in known.items() if value is not None},
            "difference": self.kind.is_difference,
            "at": rfc3339(at_micros),
            "usd": usd_from_nanos(nanos),
        }
