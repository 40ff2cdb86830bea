"""Billing where no credits service is configured: nothing is held, and nothing is charged.

What would have been is in each request's access line, and in the usage log.
"""

from ai_proxy_service.core.interfaces import Balance, Hold, HoldRequest
from ai_proxy_service.core.money import usd_text
from ai_proxy_service.core.settlement import Settled, Settlement
from service_kit.logging import get_logger

_log = get_logger(__name__)


class LoggingBillingService:
    """Enforces nothing: each charge is counted, as the start-up log says."""

    enforced = False

    async def balance(self, account: str, key_id: str | None = None) -> Balance | None:
        """Nobody needs any credit."""
        return None

    async def hold(self, request: HoldRequest) -> Hold:
        """Reserve nothing."""
        return Hold("", request.amount_nanos, None)

    async def withdraw(self, request: HoldRequest) -> None:
        """Nothing is reserved."""

    async def raise_hold(self, hold: Hold, amount_nanos: int, progress_nanos: int) -> Hold:
        """Reserve nothing."""
        return Hold("", amount_nanos, None)

    async def settle(self, settlement: Settlement) -> Settled:
        """Charge nothing."""
        _log.debug(
            "charge_not_billed",
            account=settlement.account,
            amount_usd=usd_text(settlement.amount_nanos),
            usage=settlement.usage,
            **settlement.metadata,
        )
        return Settled(settlement.amount_nanos, None, status="not_billed")

    async def release(self, hold: Hold) -> None:
        """Nothing is reserved."""

    async def aclose(self) -> None:
        """Nothing is open."""
