"""The proxy's usage log: one record for each attempt to charge for a completion."""

from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec

from credits_service.core.moments import micros_from_datetime
from credits_service.core.money import AmountError, nanos_ceil, nanos_from_usd

Status = Literal["charged", "pending", "free", "refused", "not_billed"]

_Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_Whole = Annotated[int, msgspec.Meta(ge=0)]
_Digits = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,40}$")]


class UsageLogError(ValueError):
    """A line is no record of the usage log; the message says why."""


class Item(msgspec.Struct, frozen=True):
    """One line of a bill.

    Attributes:
        kind: what was used, such as ``input`` or ``output_audio``.
        quantity: how much of it.
        unit: what is counted.
        unit_price_pico: what one costs, in pico-USD.
    """

    kind: str
    quantity: _Whole
    unit: str
    unit_price_pico: _Whole

    @property
    def cost_pico(self) -> int:
        """What all of them cost, in pico-USD."""
        return self.quantity * self.unit_price_pico


class UsageRecord(msgspec.Struct, frozen=True, dict=True):
    """One attempt to charge, as the proxy exports it; amounts are USD.

    Attributes:
        amount: what the usage cost.
        charged: what the ledger took for it.
        shortfall: what the account could not pay.
    """

    completion_id: str
    attempt: int
    billing_key: str
    request_id: str
    account: str
    model: str
    service_tier: str
    ended_at: _Moment
    usage: dict[str, Any]
    items: list[Item]
    exact_cost_pico: _Digits
    amount: Decimal
    charged: Decimal
    shortfall: Decimal
    status: Status
    hold_id: str | None = None
    transaction_id: str | None = None

    @cached_property
    def ended_at_micros(self) -> int:
        """When the completion ended."""
        return micros_from_datetime(self.ended_at)

    @cached_property
    def amount_nanos(self) -> int:
        """What the usage cost, in nano-USD."""
        return _nanos(self.amount)

    @cached_property
    def charged_nanos(self) -> int:
        """What the ledger took, in nano-USD."""
        return _nanos(self.charged)

    @cached_property
    def shortfall_nanos(self) -> int:
        """What could not be paid, in nano-USD."""
        return _nanos(self.shortfall)

    @property
    def exact_pico(self) -> int:
        """The exact cost, in pico-USD."""
        return int(self.exact_cost_pico)

    @property
    def items_pico(self) -> int:
        """The exact cost as its items add up to, in pico-USD."""
        return sum(item.cost_pico for item in self.items)

    @property
    def is_recomputable(self) -> bool:
        """Whether the cost follows from the items, and the amount from the cost."""
        return self.items_pico == self.exact_pico and (
            nanos_ceil(self.exact_pico) == self.amount_nanos
        )


_decoder = msgspec.json.Decoder(UsageRecord)


def record_of(line: bytes) -> UsageRecord:
    """Read a line.

    Raises:
        UsageLogError: it is no record.
    """
    try:
        record = _decoder.decode(line)
        # Read now: whoever works with the record later is not to meet a bad amount.
        _ = (record.amount_nanos, record.charged_nanos, record.shortfall_nanos)
    except (msgspec.DecodeError, AmountError, UnicodeDecodeError) as error:
        raise UsageLogError(str(error)) from None
    return record


def counts_of(usage: dict[str, Any]) -> dict[str, int]:
    """Return the counts of a usage that are not zero; whatever else it says is left out."""
    return {
        name: count
        for name, count in usage.items()
        if isinstance(count, int) and not isinstance(count, bool) and count
    }


def _nanos(amount: Decimal) -> int:
    return 0 if amount == 0 else nanos_from_usd(amount)
