"""The usage log: one record for each charge, also for those that cost nothing or were not taken.

It explains charges; the ledger makes them. So it may lag behind, and what it loses costs nobody
anything. It never holds prompts or answers.
"""

from typing import Protocol

import msgspec

from ai_proxy_service.core.moments import now_micros
from ai_proxy_service.core.order import Order, billing_key
from ai_proxy_service.core.pricing import Cost, LineItem
from ai_proxy_service.core.settlement import ChargeStatus, Settled


class ChargeRecord(msgspec.Struct, frozen=True):
    """What one attempt to answer used, what that costs, and what was taken for it.

    Attributes:
        completion_id: the id that the client saw, or one made of it (`Order.answer_id`).
        attempt: 1, or 2 for the repetition of an answer that could not be used.
        account: who pays.
        key_name: the name of the key that asked; an issued key's is its id.
        service_tier: Google's, whose prices were used.
        catalog_version: where the prices are from.
        usage: counts of tokens and lookups, without those that are zero.
        items: the lines that the cost is the sum of.
        exact_cost_pico: that sum, in pico-USD.
        amount_nanos: the same in nano-USD, rounded up: what there is to pay.
        charged_nanos: what was taken from the account; 0 while that is not known.
        shortfall_nanos: what the account could not pay.
        estimated: the usage may not cover all that was produced.
        status: what became of the charge.
        hold_id: the hold that it was captured from.
        transaction_id: the charge in the ledger.
    """

    completion_id: str
    attempt: int
    request_id: str
    account: str
    key_name: str
    model: str
    service_tier: str
    catalog_version: str
    started_at_micros: int
    ended_at_micros: int
    usage: dict[str, int]
    items: tuple[LineItem, ...]
    exact_cost_pico: int
    amount_nanos: int
    charged_nanos: int
    shortfall_nanos: int
    estimated: bool
    status: ChargeStatus
    hold_id: str | None
    transaction_id: str | None

    @property
    def billing_key(self) -> str:
        """What the idempotency key of the charge is made of."""
        return billing_key(self.completion_id, self.attempt)


class LateOutcome(msgspec.Struct, frozen=True):
    """What became of a charge that was pending when its record was written."""

    completion_id: str
    attempt: int
    status: ChargeStatus
    charged_nanos: int = 0
    shortfall_nanos: int = 0
    transaction_id: str | None = None
    at_micros: int = msgspec.field(default_factory=now_micros)


class UsageLog(Protocol):
    """Where records go."""

    def note(self, record: ChargeRecord) -> None:
        """Keep a record. Never waits and never fails: an answer depends on it."""

    async def note_outcome(self, outcome: LateOutcome) -> None:
        """Keep what became of a pending charge; returns once it is kept, or after a while."""


class Receipts(Protocol):
    """Where records are found again."""

    async def find(
        self, asked_id: str, name: str, account: str | None = None
    ) -> list[ChargeRecord]:
        """Return the charges of an answer; waits a moment for what is not there yet.

        Args:
            asked_id: the answer's id, or its request's; of a request id that a client used again,
                the latest answer is meant.
            name: of the key whose holder asks; what they may not see is left out.
            account: whose charges they may see besides the key's own; None for `name`'s.

        Raises:
            ReceiptsUnavailableError: the log can't be read.
        """


def charge_record(
    order: Order,
    counts: dict[str, int],
    cost: Cost,
    settled: Settled,
    *,
    hold_id: str,
    ended_at_micros: int,
    estimated: bool,
) -> ChargeRecord:
    """Return the record of a charge."""
    return ChargeRecord(
        completion_id=order.completion_id,
        attempt=order.attempt,
        request_id=order.request_id,
        account=order.account,
        key_name=order.key_name,
        model=order.model,
        service_tier=cost.tier,
        catalog_version=order.catalog_version,
        started_at_micros=order.started_at_micros,
        ended_at_micros=ended_at_micros,
        usage=counts,
        items=cost.items,
        exact_cost_pico=cost.exact_pico,
        amount_nanos=cost.amount_nanos,
        # Of the others it is not known yet, or nobody took anything.
        charged_nanos=settled.charged_nanos if settled.status == "charged" else 0,
        shortfall_nanos=settled.shortfall_nanos,
        estimated=estimated,
        status=settled.status,
        hold_id=hold_id or None,
        transaction_id=settled.transaction_id,
    )
