"""Refused uses of issued keys, until the ledger has them on the keys' records.

Noting one costs a look-up in memory; who is refused never waits for the ledger.
"""

from typing import Literal, NamedTuple

from ai_proxy_service.core.key_metrics import KeyMetrics

# More keys and reasons than this at a time are only counted.
WAITING_MAX = 10_000

RefusedUse = Literal[
    "revoked",
    "rotated",
    "disabled",
    "expired",
    "missing_scope",
    "model_not_allowed",
    "rpm",
    "tpm",
    "max_concurrent",
    "spend_day",
    "spend_month",
    "spend_total",
]
# The spend limits of keys, as the ledger calls them.
SPEND_LIMITS: dict[str, RefusedUse] = {
    "key_day": "spend_day",
    "key_month": "spend_month",
    "key_total": "spend_total",
}


class RefusedUses(NamedTuple):
    """How often a key was refused for one reason.

    Attributes:
        key_id: which key.
        reason: why.
        times: how often.
        request_id: the first of the requests.
    """

    key_id: str
    reason: RefusedUse
    times: int
    request_id: str


class KeyRefusals:
    """Gathers refusals by key and reason.

    Args:
        metrics: where they are counted.
    """

    def __init__(self, metrics: KeyMetrics) -> None:
        self._metrics = metrics
        self._waiting: dict[tuple[str, RefusedUse], RefusedUses] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def note(self, key_id: str, reason: RefusedUse, request_id: str) -> None:
        """Note that a use of a key was refused."""
        self._metrics.refused.labels(reason).inc()
        self._add(RefusedUses(key_id, reason, 1, request_id))

    def take(self, most: int) -> list[RefusedUses]:
        """Take away the oldest of what waits, to report them."""
        taken = list(self._waiting.values())[:most]
        for uses in taken:
            del self._waiting[uses.key_id, uses.reason]
        return taken

    def give_back(self, taken: list[RefusedUses]) -> None:
        """Let wait again what could not be reported."""
        for uses in taken:
            self._add(uses)

    def drop(self, taken: list[RefusedUses]) -> None:
        """Count what will never be reported."""
        self._metrics.refusals_lost.inc(sum(uses.times for uses in taken))

    def _add(self, uses: RefusedUses) -> None:
        key = (uses.key_id, uses.reason)
        found = self._waiting.get(key)
        if found is not None:
            self._waiting[key] = found._replace(times=found.times + uses.times)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting[key] = uses
        else:
            self._metrics.refusals_lost.inc(uses.times)
