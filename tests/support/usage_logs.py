"""Usage logs for tests: one that keeps what it is told in memory, and records to put in others."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from ai_proxy_service.core.moments import now_micros
from ai_proxy_service.core.pricing import LineItem
from ai_proxy_service.core.usage_log import ChargeRecord, LateOutcome


@dataclass
class MemoryUsageLog:
    """Keeps what is noted, in its order."""

    records: list[ChargeRecord] = field(default_factory=list)
    outcomes: list[LateOutcome] = field(default_factory=list)

    def note(self, record: ChargeRecord) -> None:
        self.records.append(record)

    async def note_outcome(self, outcome: LateOutcome) -> None:
        self.outcomes.append(outcome)


def a_record(**members: Any) -> ChargeRecord:
    """Make a record of a charge of 0.000012346 USD; what is given replaces what is usual."""
    now = now_micros()
    usual: dict[str, Any] = {
        "completion_id": f"chatcmpl-{secrets.token_hex(14)}",
        "attempt": 1,
        "request_id": f"req_{secrets.token_hex(12)}",
        "account": "ann",
        "key_name": "tester",
        "model": "gemini-2.5-flash",
        "service_tier": "standard",
        "catalog_version": "1",
        "started_at_micros": now,
        "ended_at_micros": now,
        "usage": {"prompt_tokens": 3, "candidates_tokens": 2},
        "items": (LineItem("input", 3, 300_100), LineItem("output", 2, 5_722_500)),
        "exact_cost_pico": 12_345_300,
        "amount_nanos": 12_346,
        "charged_nanos": 12_346,
        "shortfall_nanos": 0,
        "estimated": False,
        "status": "charged",
        "hold_id": "h-1",
        "transaction_id": "t-1",
    }
    return ChargeRecord(**{**usual, **members})
