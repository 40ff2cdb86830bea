"""Keeps a running completion's hold ahead of its usage."""

import asyncio
import time

from ai_proxy_service.core.authorisation import WINDOW_TOKENS, Estimate
from ai_proxy_service.core.background import BackgroundTasks
from ai_proxy_service.core.errors import BillingUnavailableError, InsufficientCreditError
from ai_proxy_service.core.interfaces import BillingService, Hold
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.order import Order
from ai_proxy_service.core.pricing import cost_of
from ai_proxy_service.core.usage import TokenUsage, UsageTally
from service_kit.logging import get_logger

_log = get_logger(__name__)

# The hold is raised while this much of the window is still unused, so that the answer
# does not have to wait for the raise with nothing left.
LOW_WATER_TOKENS = WINDOW_TOKENS // 4
HEARTBEAT_SECONDS = 15.0
_NEVER = 1 << 62


class Meter:
    """The hold of one completion, and how far it reaches.

    Attributes:
        hold: what is reserved now.
        cost: the request's costs, as estimated.
    """

    def __init__(
        self,
        order: Order,
        hold: Hold,
        cost: Estimate,
        *,
        limit_tokens: int,
        billing: BillingService,
        background: BackgroundTasks,
        metrics: ProxyMetrics,
    ) -> None:
        self.hold = hold
        self.cost = cost
        self._order = order
        # What Gemini was told to stop at.
        self._limit_tokens = limit_tokens
        self._billing = billing
        self._background = background
        self._metrics = metrics
        self._raising: asyncio.Task[None] | None = None
        self._heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS
        self._largest_step_tokens = 0
        self._last_tokens = 0
        self._take_over(hold)

    @property
    def holds_worst(self) -> bool:
        """Whether the hold covers all that the request can cost."""
        return self.hold.amount_nanos >= self.cost.worst_nanos

    def _take_over(self, hold: Hold) -> None:
        """Take over a new hold and work out how far it reaches."""
        self.hold = hold
        self._reach_tokens = self.cost.output_tokens_for(hold.amount_nanos)
        self._raise_at_tokens = self._reach_tokens + 1
        if self._reach_tokens < self._limit_tokens:
            self._raise_at_tokens = self._reach_tokens - LOW_WATER_TOKENS
        self._cut_at_tokens = _NEVER

    async def follow(self, tally: UsageTally) -> bool:
        """Note what has been used; return whether the answer must be cut off.

        The hold is raised beside the answer, which waits for it only with nothing left.
        """
        tokens = tally.output_tokens
        self._largest_step_tokens = max(self._largest_step_tokens, tokens - self._last_tokens)
        self._last_tokens = tokens
        due = tokens >= self._raise_at_tokens or time.monotonic() >= self._heartbeat_at
        if due and self._raising is None:
            self._heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS
            self._raising = self._background.start(
                self._raise(tally.usage or TokenUsage()), f"raise-{self._order.completion_id}"
            )
        if self._raising is not None and tokens >= self._reach_tokens - self._largest_step_tokens:
            await asyncio.shield(self._raising)
        return tokens >= self._cut_at_tokens

    async def _raise(self, usage: TokenUsage) -> None:
        spent_nanos = cost_of(usage, self._order.price).amount_nanos
        held_nanos = wanted_nanos = self.hold.amount_nanos
        if usage.output_tokens >= self._raise_at_tokens:
            wanted_tokens = min(usage.output_tokens + WINDOW_TOKENS, self.cost.max_output_tokens)
            wanted_nanos = max(held_nanos, self.cost.total_nanos(wanted_tokens))
        try:
            self._take_over(await self._raised(wanted_nanos, spent_nanos))
        except InsufficientCreditError as refused:
            await self._take_the_rest(spent_nanos, refused)
        except BillingUnavailableError:
            # A running answer is finished and settled later.
            _log.warning("hold_not_raised", completion_id=self._order.completion_id)
            self._raise_at_tokens = usage.output_tokens + WINDOW_TOKENS
        finally:
            self._raising = None

    async def _take_the_rest(self, spent_nanos: int, refused: InsufficientCreditError) -> None:
        """Hold what the account still has, and note where that will be used up."""
        wanted_nanos = self.hold.amount_nanos + (refused.available_nanos or 0)
        try:
            # Also where nothing is left: a refused raise did not record the progress.
            self._take_over(await self._raised(wanted_nanos, spent_nanos))
        except (InsufficientCreditError, BillingUnavailableError):
            _log.info("rest_not_held", completion_id=self._order.completion_id)
        self._raise_at_tokens = _NEVER
        # With a step to spare, unless Gemini stops there by itself.
        spare_tokens = self._largest_step_tokens if self._reach_tokens < self._limit_tokens else -1
        self._cut_at_tokens = self._reach_tokens - spare_tokens

    async def _raised(self, amount_nanos: int, spent_nanos: int) -> Hold:
        self._metrics.hold_raises.inc()
        return await self._billing.raise_hold(
            self.hold, amount_nanos, min(spent_nanos, amount_nanos)
        )

    def stop(self) -> None:
        """Raise no more: the completion is being settled."""
        if self._raising is not None:
            self._raising.cancel()
