"""A billing service with its outbox, for the tests of what goes wrong with the ledger."""

import asyncio

import httpx

from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.settlement import Settlement
from ai_proxy_service.services.billing_service import CreditsBillingService
from ai_proxy_service.services.outbox import Outbox
from support.usage_logs import MemoryUsageLog

URL = "http://credits.test"
HOLD = {"hold_id": "h1", "amount": "0.5", "available": "1.25"}
BILLED = {"transaction_id": "t", "amount": "0.000012345", "shortfall": "0", "available": "1"}
SETTLEMENT = Settlement(
    key="settle-chatcmpl-1",
    account="alice",
    hold_id="h1",
    amount_nanos=12_345,
    description="d",
    usage={"prompt_tokens": 1},
    price={"model": "m"},
    metadata={"completion_id": "chatcmpl-1"},
)


class Parts:
    """A billing service, its outbox, its metrics, and what it tells the usage log."""

    def __init__(
        self,
        service: CreditsBillingService,
        outbox: Outbox,
        metrics: ProxyMetrics,
        log: MemoryUsageLog,
    ) -> None:
        self.service = service
        self.outbox = outbox
        self.metrics = metrics
        self.log = log

    async def deliver_until_empty(self) -> None:
        """Let the outbox deliver, and wait until nothing waits any more."""
        task = asyncio.create_task(self.outbox.deliver_all(self.service.deliver))
        await asyncio.wait_for(self.outbox.emptied.wait(), 30)
        task.cancel()


def problem(status: int, code: str, **members: object) -> httpx.Response:
    """Make a refusal as the credits service writes it."""
    return httpx.Response(
        status,
        json={"code": code, "detail": "no", **members},
        headers={"content-type": "application/problem+json"},
    )
