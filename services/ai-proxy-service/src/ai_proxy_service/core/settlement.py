"""The final charge of a completion, and what became of it."""

from dataclasses import dataclass, replace
from typing import Any, Literal

ChargeStatus = Literal["charged", "pending", "free", "refused", "not_billed"]
"""What became of a charge: it was taken; it waits in the outbox; there was nothing to pay; the
credits service refused it for good; or there is no credits service."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The final charge of one completion.

    Attributes:
        key: idempotency key; the same completion always has the same one.
        account: who pays.
        hold_id: the hold that it is captured from; the rest of the hold is returned.
        amount_nanos: the charge in nano-USD.
        description: for the statement.
        usage: token counts.
        price: unit prices and exact cost.
        metadata: completion id, request id and the like.
    """

    key: str
    account: str
    hold_id: str
    amount_nanos: int
    description: str
    usage: dict[str, int]
    price: dict[str, Any]
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a settlement.

    Attributes:
        charged_nanos: what was taken, or will be, in nano-USD.
        available_nanos: what the account has left; None where unknown.
        status: what became of the charge.
        shortfall_nanos: what the account could not pay.
        transaction_id: the charge in the ledger; None where there is none yet.
    """

    charged_nanos: int
    available_nanos: int | None
    status: ChargeStatus = "charged"
    shortfall_nanos: int = 0
    transaction_id: str | None = None

    def after(self, earlier: "Settled | None") -> "Settled":
        """Return this with what an earlier settlement of the same answer took besides."""
        if earlier is None:
            return self
        left_nanos = self.available_nanos
        return replace(
            self,
            charged_nanos=earlier.charged_nanos + self.charged_nanos,
            available_nanos=earlier.available_nanos if left_nanos is None else left_nanos,
        )
