"""What a request cost, as a charge in the ledger."""

from typing import Any

from ai_proxy_service.core.interfaces import NO_HOLD, BillingService, Hold
from ai_proxy_service.core.meter import Meter
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.moments import now_micros
from ai_proxy_service.core.money import nanos_of_usd, usd_text
from ai_proxy_service.core.order import Order
from ai_proxy_service.core.pricing import Cost, cost_of, usage_record
from ai_proxy_service.core.settlement import Settled, Settlement
from ai_proxy_service.core.usage import TokenUsage
from ai_proxy_service.core.usage_log import UsageLog, charge_record
from service_kit.access_log import note, noted
from service_kit.logging import get_logger
from service_kit.spans import current_span
from service_kit.tracing import traced

_log = get_logger(__name__)


class Charger:
    """Charges what requests cost, and puts it on record.

    Args:
        billing: where it is charged.
        metrics: where it is counted.
        log: where its record goes.
    """

    def __init__(self, billing: BillingService, metrics: ProxyMetrics, log: UsageLog) -> None:
        self._billing = billing
        self._metrics = metrics
        self._log = log

    @traced("charge")
    async def charge(
        self, order: Order, usage: TokenUsage, meter: Meter | None, *, estimated: bool
    ) -> Settled:
        """Charge for a usage against its hold, once, return the rest of it, and put it on record.

        Args:
            order: what was asked for.
            usage: what it used.
            meter: has the hold; None where nothing is enforced.
            estimated: the usage may not cover all that was produced.
        """
        hold = NO_HOLD if meter is None else meter.hold
        cost = cost_of(usage, order.price)
        self._tell_of_unpriced(order, cost)
        self._metrics.completed(order.model, usage, cost.amount_nanos)
        order.key_use.spend(usage.input_tokens + usage.output_tokens)
        counts = usage_record(usage)
        ended_at_micros = now_micros()
        if cost.amount_nanos == 0:
            await self._billing.release(hold)
            settled = Settled(0, None, status="free")
        else:
            if order.recording is not None:
                await order.recording.before_charge()
            settled = await self._billing.settle(
                _settlement(order, usage, counts, cost, hold, estimated=estimated)
            )
        _tell(usage, cost, settled, hold)
        self._log.note(
            charge_record(
                order,
                counts,
                cost,
                settled,
                hold_id=hold.hold_id,
                ended_at_micros=ended_at_micros,
                estimated=estimated,
            )
        )
        return settled

    def _tell_of_unpriced(self, order: Order, cost: Cost) -> None:
        for kind in cost.unpriced:
            self._metrics.unpriced.labels(order.model, kind).inc()
            _log.error(
                "usage_without_price",
                completion_id=order.completion_id,
                model=order.model,
                kind=kind,
                consequence="charged at the dearest price that applies",
                remedy="give it a price in the catalogue",
            )


def _tell(usage: TokenUsage, cost: Cost, settled: Settled, hold: Hold) -> None:
    """Note for the access line and the trace what was charged; several charges add up."""
    cost_nanos = nanos_of_usd(noted("cost_usd", "0")) + cost.amount_nanos
    note(
        prompt_tokens=noted("prompt_tokens", 0) + usage.input_tokens,
        completion_tokens=noted("completion_tokens", 0) + usage.output_tokens,
        cost_usd=usd_text(cost_nanos),
        charge_status=settled.status,
        hold_id=hold.hold_id,
        transaction_id=settled.transaction_id,
    )
    if (charge_span := current_span()).recording:
        charge_span.set(
            {
                "gateway.cost_usd": usd_text(cost.amount_nanos),
                "gateway.charge_status": settled.status,
                "gateway.transaction_id": settled.transaction_id or "",
            }
        )


def _settlement(
    order: Order,
    usage: TokenUsage,
    counts: dict[str, int],
    cost: Cost,
    hold: Hold,
    *,
    estimated: bool,
) -> Settlement:
    return Settlement(
        key=f"settle-{order.billing_key}",
        account=order.account,
        hold_id=hold.hold_id,
        amount_nanos=cost.amount_nanos,
        description=f"{order.model}: {usage.input_tokens} in, {usage.output_tokens} out",
        usage=counts,
        price=cost.as_price(order.model, order.catalog_version),
        metadata=_metadata(order, estimated=estimated),
    )


def _metadata(order: Order, *, estimated: bool) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "completion_id": order.completion_id,
        "request_id": order.request_id,
        "key": order.key_name,
    }
    if order.issued_key is not None:
        metadata |= {"key": order.issued_key.label, "key_id": order.issued_key.name}
    if order.end_user is not None:
        metadata["end_user"] = order.end_user
    if order.attempt > 1:
        metadata["attempt"] = order.attempt
    if estimated:
        metadata["estimated"] = True
    return metadata
