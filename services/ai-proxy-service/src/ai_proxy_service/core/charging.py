"""What a request cost, as a charge in the ledger."""

from typing import Any

from ai_proxy_service.core.interfaces import BillingService, Hold, Settled, Settlement
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.order import Order
from ai_proxy_service.core.pricing import cost_of, usage_record
from ai_proxy_service.core.usage import TokenUsage


async def charge(
    order: Order,
    usage: TokenUsage,
    hold: Hold,
    *,
    billing: BillingService,
    metrics: ProxyMetrics,
    estimated: bool,
) -> Settled:
    """Charge for a usage against a hold, once, and return the rest of it.

    Args:
        order: what was asked for.
        usage: what it used.
        hold: what is reserved for it.
        billing: where it is charged.
        metrics: where it is counted.
        estimated: the usage may not cover all that was produced.
    """
    cost = cost_of(usage, order.price)
    metrics.completed(order.model, usage, cost.amount_nanos)
    if cost.amount_nanos == 0:
        await billing.release(hold)
        return Settled(0, None)
    return await billing.settle(
        Settlement(
            key=f"settle-{order.billing_key}",
            account=order.account,
            hold_id=hold.hold_id,
            amount_nanos=cost.amount_nanos,
            description=f"{order.model}: {usage.input_tokens} in, {usage.output_tokens} out",
            usage=usage_record(usage),
            price=cost.as_price(order.model, order.catalog_version),
            metadata=_metadata(order, estimated=estimated),
        )
    )


def _metadata(order: Order, *, estimated: bool) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "completion_id": order.completion_id,
        "request_id": order.request_id,
        "key": order.key_name,
    }
    if order.attempt > 1:
        metadata["attempt"] = order.attempt
    if estimated:
        metadata["estimated"] = True
    return metadata
