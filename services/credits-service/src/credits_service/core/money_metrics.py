"""What an operator of money needs to know of the ledger, besides how fast it is."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from service_kit.metrics import Readings, age_seconds

_MICROS_PER_SECOND = 1_000_000


class MoneyMetrics:
    """Holds, what could not be paid, and the last check of the whole ledger."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.holds_open = Gauge(
            "ledger_holds_open",
            "Holds that reserve credit, in the whole ledger, counted once in a sweep.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.holds_oldest = Gauge(
            "ledger_holds_oldest_timestamp_seconds",
            "When the oldest open hold was placed, in seconds since 1970; 0 if there is none.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self.holds_expired = Counter(
            "ledger_holds_expired",
            "Holds that nobody settled in time.",
            registry=registry,
        )
        self.shortfalls = Counter(
            "ledger_shortfalls",
            "Charges that an account could not pay in full.",
            registry=registry,
        )
        self.shortfall = Counter(
            "ledger_shortfall_nanousd",
            "What accounts could not pay of their charges, in nano-USD.",
            registry=registry,
        )
        # Not of live workers only: what was found does not go with the worker that found it.
        self.integrity_checked = Gauge(
            "ledger_integrity_checked_timestamp_seconds",
            "When the whole ledger was last checked over HTTP, in seconds since 1970; 0: not yet.",
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self.integrity_violations = Gauge(
            "ledger_integrity_violations",
            "What that check found wrong, an overdraft included; must be 0.",
            multiprocess_mode="mostrecent",
            registry=registry,
        )

    def booked(self, holds_expired: int, shortfalls_nanos: Sequence[int]) -> None:
        """Count what a transaction that is committed has booked.

        Args:
            holds_expired: holds that ended because their time was over.
            shortfalls_nanos: what could not be paid of each charge that was not paid in full.
        """
        if holds_expired:
            self.holds_expired.inc(holds_expired)
        if shortfalls_nanos:
            self.shortfalls.inc(len(shortfalls_nanos))
            self.shortfall.inc(sum(shortfalls_nanos))

    def counted(self, holds_open: int, oldest_micros: int | None) -> None:
        """Note what was found when the open holds were counted."""
        self.holds_open.set(holds_open)
        self.holds_oldest.set((oldest_micros or 0) / _MICROS_PER_SECOND)

    def checked(self, violations: int) -> None:
        """Note what a check of the whole ledger has found."""
        self.integrity_violations.set(violations)
        self.integrity_checked.set(time.time())


def money_view(readings: Readings) -> Mapping[str, Any]:
    """Return these figures as people read them; amounts in nano-USD are whole numbers."""
    checked = readings.total("ledger_integrity_checked_timestamp_seconds")
    return {
        "holds_open": int(readings.total("ledger_holds_open")),
        "oldest_hold_age_seconds": age_seconds(
            readings.total("ledger_holds_oldest_timestamp_seconds")
        ),
        "holds_expired": int(readings.total("ledger_holds_expired_total")),
        "shortfalls": int(readings.total("ledger_shortfalls_total")),
        "shortfall_nanousd": int(readings.total("ledger_shortfall_nanousd_total")),
        "integrity_violations": (
            int(readings.total("ledger_integrity_violations")) if checked else None
        ),
        "integrity_check_age_seconds": age_seconds(checked) if checked else None,
    }
