"""Keeps a running completion's hold ahead of its usage."""

import asyncio
import time
from dataclasses import replace

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
# Most answers end before this. One that goes on has its prompt on record, should the process die.
FIRST_HEARTBEAT_SECONDS = 2.0
# A prompt of this cost is put on record as soon as it is known: 0.01 USD.
LARGE_INPUT_NANOS = 10_000_000
_NEVER = 1 << 62


class Meter:
    """The hold of one completion, and how far it reaches.

    Attributes:
        hold: what is reserved now.
        cost: the request's costs: as estimated, until Gemini tells what the input was.
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
        self._estimated = cost
        # What Gemini was told to stop at.
        self._limit_tokens = limit_tokens
        self._billing = billing
        self._background = background
        self._metrics = metrics
        self._raising: asyncio.Task[None] | None = None
        self._heartbeat_at = time.monotonic() + FIRST_HEARTBEAT_SECONDS
        self._step_tokens = 0
        self._input_counts: tuple[int, ...] = (0,)
        self._exhausted = False
        self._reckon()

    @property
    def holds_worst(self) -> bool:
        """Whether the hold covers all that the request can cost."""
        return self.hold.amount_nanos >= self.cost.worst_nanos

    def _reckon(self) -> None:
        """Work out how far the hold reaches, and what happens there."""
        reach_tokens = self.cost.output_tokens_for(self.hold.amount_nanos)
        # Where Gemini stops by itself nothing has to be done, unless it does not.
        stops = reach_tokens >= self._limit_tokens
        self._reach_tokens = reach_tokens
        if self._exhausted:
            self._raise_at_tokens = _NEVER
            # With a step to spare.
            self._cut_at_tokens = reach_tokens + 1 if stops else reach_tokens - self._step_tokens
        else:
            self._raise_at_tokens = reach_tokens + 1 if stops else reach_tokens - LOW_WATER_TOKENS
            self._cut_at_tokens = _NEVER

    def _take_over(self, hold: Hold, *, exhausted: bool) -> None:
        self.hold = hold
        self._exhausted = exhausted
        self._reckon()

    def _take_in(self, tally: UsageTally) -> None:
        """Replace the estimate of the input by what Gemini says of it.

        Server tools bring input and lookups in mid-stream, and counts of media come late: there
        the estimate stays the least that is reckoned with.
        """
        self._input_counts = tally.input_counts
        usage = tally.usage or TokenUsage()
        spent_nanos = cost_of(usage.without_output(), self._order.price).amount_nanos
        if spent_nanos >= LARGE_INPUT_NANOS:
            self._heartbeat_at = 0.0
        if self._order.input_may_grow:
            spent_nanos = max(spent_nanos, self._estimated.prompt_nanos)
        rates = self._order.price.rates_for(usage.input_tokens, self._order.tier)
        # A longer prompt makes output dearer, too.
        output_pico = max(rates.worst_output, self._estimated.output_pico)
        self.cost = replace(self.cost, prompt_nanos=spent_nanos, output_pico=output_pico)
        self._reckon()

    async def follow(self, tally: UsageTally) -> bool:
        """Note what has been used; return whether the answer must be cut off.

        The hold is raised beside the answer, which waits for it only with nothing left.
        """
        if tally.input_counts != self._input_counts:
            self._take_in(tally)
        tokens, self._step_tokens = tally.output_tokens, tally.largest_step_tokens
        due = tokens >= self._raise_at_tokens or time.monotonic() >= self._heartbeat_at
        if due and self._raising is None:
            self._heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS
            self._raising = self._background.start(
                self._raise(tally.usage or TokenUsage()), f"raise-{self._order.completion_id}"
            )
        if self._raising is not None and tokens >= self._reach_tokens - self._step_tokens:
            await asyncio.shield(self._raising)
        return tokens >= self._cut_at_tokens

    async def _raise(self, usage: TokenUsage) -> None:
        spent_nanos = cost_of(usage, self._order.price).amount_nanos
        held_nanos = wanted_nanos = self.hold.amount_nanos
        if usage.output_tokens >= self._raise_at_tokens:
            wanted_tokens = min(usage.output_tokens + WINDOW_TOKENS, self.cost.max_output_tokens)
            wanted_nanos = max(held_nanos, self.cost.total_nanos(wanted_tokens))
        try:
            self._take_over(await self._raised(wanted_nanos, spent_nanos), exhausted=False)
        except InsufficientCreditError as refused:
            await self._take_the_rest(spent_nanos, refused)
        except BillingUnavailableError:
            # A running answer is finished and settled later.
            _log.warning("hold_not_raised", completion_id=self._order.completion_id)
            self._raise_at_tokens = usage.output_tokens + WINDOW_TOKENS
        finally:
            self._raising = None

    async def _take_the_rest(self, spent_nanos: int, refused: InsufficientCreditError) -> None:
        """Hold what the account still has; the answer is cut off where that will be used up."""
        hold = self.hold
        wanted_nanos = hold.amount_nanos + (refused.available_nanos or 0)
        try:
            # Also where nothing is left: a refused raise did not record the progress.
            hold = await self._raised(wanted_nanos, spent_nanos)
        except (InsufficientCreditError, BillingUnavailableError):
            _log.info("rest_not_held", completion_id=self._order.completion_id)
        self._take_over(hold, exhausted=True)

    async def _raised(self, amount_nanos: int, spent_nanos: int) -> Hold:
        self._metrics.hold_raises.inc()
        return await self._billing.raise_hold(
            self.hold, amount_nanos, min(spent_nanos, amount_nanos)
        )

    def stop(self) -> None:
        """Raise no more: the completion is being settled."""
        if self._raising is not None:
            self._raising.cancel()
