"""One completion while it runs: metered as it grows, settled once, whatever happens to it."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from ai_proxy_service.core.authorisation import WINDOW_TOKENS, Estimate
from ai_proxy_service.core.background import BackgroundTasks
from ai_proxy_service.core.errors import BillingUnavailableError, InsufficientCreditError
from ai_proxy_service.core.gemini import GeminiError, GenerateContentBody, GenerateContentResponse
from ai_proxy_service.core.interfaces import (
    BillingService,
    GeminiStream,
    Hold,
    Settled,
    Settlement,
)
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.pricing import ModelPrice, UnpricedUsageError, cost_of, usage_record
from ai_proxy_service.core.usage import TokenUsage, usage_of
from service_kit.logging import get_logger

_log = get_logger(__name__)

# The hold is raised while this much of the window is still unused, so that the answer
# does not have to wait for the raise with nothing left.
LOW_WATER_TOKENS = WINDOW_TOKENS // 4
HEARTBEAT_SECONDS = 15.0
DRAIN_SECONDS_MAX = 600.0
DRAINS_MAX = 512
_NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be completed, and for whom.

    Attributes:
        completion_id: the id that the client sees; also makes the settlement's key.
        request_id: the HTTP request's id.
        account: who pays.
        key_name: the name of the key that asked.
        model: Gemini's id of the model.
        price: its price.
        catalog_version: where the price is from.
        body: the `generateContent` body.
        encoded_bytes: the body's size as sent.
        max_output_tokens: the most output that the request allows.
        streamed: whether the client wants it as a stream.
    """

    completion_id: str
    request_id: str
    account: str
    key_name: str
    model: str
    price: ModelPrice
    catalog_version: str
    body: GenerateContentBody
    encoded_bytes: int
    max_output_tokens: int
    streamed: bool


@dataclass(slots=True)
class Meter:
    """The hold of a running completion, and how far it reaches.

    Attributes:
        hold: what is reserved now.
        cost: the request's costs, as estimated.
        raise_at_tokens: output tokens at which the hold is to be raised.
        cut_at_tokens: output tokens at which the account's credit ends.
    """

    hold: Hold
    cost: Estimate
    raise_at_tokens: int = _NEVER
    cut_at_tokens: int = _NEVER
    heartbeat_at: float = field(default_factory=lambda: time.monotonic() + HEARTBEAT_SECONDS)

    def reset(self, hold: Hold) -> None:
        """Take over a new hold and work out where the next raise is due."""
        self.hold = hold
        reach_tokens = self.cost.output_tokens_for(hold.amount_nanos)
        covers_worst = reach_tokens >= self.cost.max_output_tokens
        self.raise_at_tokens = _NEVER if covers_worst else reach_tokens - LOW_WATER_TOKENS


class Completion:
    """An answer on its way from Gemini, paid for as it comes.

    `receive` until it returns nothing, then `settle`; or `abandon` at any moment.

    Attributes:
        usage: what Gemini has reported so far; None before its first report.
        cut_off: the account's credit ended before the answer did.
        lowered_max_tokens: the output limit sent to Gemini, if it had to be lowered.
    """

    def __init__(
        self,
        order: Order,
        *,
        stream: GeminiStream,
        first: list[GenerateContentResponse],
        meter: Meter | None,
        billing: BillingService,
        metrics: ProxyMetrics,
        background: BackgroundTasks,
        drain: bool,
        lowered_max_tokens: int | None,
    ) -> None:
        self.order = order
        self.usage: TokenUsage | None = None
        self.cut_off = False
        self.lowered_max_tokens = lowered_max_tokens
        self._stream = stream
        self._first = first
        self._meter = meter
        self._billing = billing
        self._metrics = metrics
        self._background = background
        self._drain = drain
        self._settled: Settled | None = None
        self._ended = False
        self._largest_step_tokens = 0
        self._note_usage(first)

    async def receive(self) -> list[GenerateContentResponse]:
        """Return the chunks that have arrived; an empty list is the end.

        Raises:
            GeminiError: the answer broke off; it still has to be settled.
        """
        if self.cut_off:
            return []
        chunks, self._first = self._first, []
        if not chunks:
            chunks = await self._stream.receive()
            self._note_usage(chunks)
        if self._meter is not None and self.usage is not None and chunks:
            await self._follow(self._meter, self.usage)
        return chunks

    def _note_usage(self, chunks: list[GenerateContentResponse]) -> None:
        # Counts are cumulative: the last report is the right one, never the sum.
        for chunk in reversed(chunks):
            if chunk.usage_metadata is not None:
                before = self.usage.output_tokens if self.usage else 0
                self.usage = usage_of(chunk.usage_metadata)
                step = self.usage.output_tokens - before
                self._largest_step_tokens = max(self._largest_step_tokens, step)
                return

    async def _follow(self, meter: Meter, usage: TokenUsage) -> None:
        """Keep the hold ahead of the usage, and stop the answer where credit ends."""
        output_tokens = usage.output_tokens
        if output_tokens >= meter.raise_at_tokens or time.monotonic() >= meter.heartbeat_at:
            await self._raise(meter, usage)
        if output_tokens + self._largest_step_tokens >= meter.cut_at_tokens:
            self.cut_off = True
            await self._stream.aclose()

    async def _raise(self, meter: Meter, usage: TokenUsage) -> None:
        meter.heartbeat_at = time.monotonic() + HEARTBEAT_SECONDS
        spent_nanos = cost_of(usage, self.order.price).amount_nanos
        held_nanos = meter.hold.amount_nanos
        wanted_nanos = held_nanos
        if usage.output_tokens >= meter.raise_at_tokens:
            wanted_tokens = min(usage.output_tokens + WINDOW_TOKENS, meter.cost.max_output_tokens)
            wanted_nanos = max(held_nanos, meter.cost.total_nanos(wanted_tokens))
        try:
            meter.reset(await self._raised(meter.hold, wanted_nanos, spent_nanos))
        except InsufficientCreditError as refused:
            await self._take_the_rest(meter, spent_nanos, refused)
        except BillingUnavailableError:
            # A running answer is finished and settled later; the next raise is tried soon.
            _log.warning("hold_not_raised", completion_id=self.order.completion_id)
            meter.raise_at_tokens = usage.output_tokens + LOW_WATER_TOKENS

    async def _take_the_rest(
        self, meter: Meter, spent_nanos: int, refused: InsufficientCreditError
    ) -> None:
        """Hold what the account still has, and note where that will be used up."""
        hold = meter.hold
        wanted_nanos = hold.amount_nanos + (refused.available_nanos or 0)
        try:
            # Also where nothing is left: a refused raise did not record the progress.
            hold = await self._raised(hold, wanted_nanos, spent_nanos)
        except (InsufficientCreditError, BillingUnavailableError):
            _log.info("rest_not_held", completion_id=self.order.completion_id)
        meter.reset(hold)
        meter.raise_at_tokens = _NEVER
        meter.cut_at_tokens = meter.cost.output_tokens_for(hold.amount_nanos)

    async def _raised(self, hold: Hold, amount_nanos: int, spent_nanos: int) -> Hold:
        self._metrics.hold_raises.inc()
        return await self._billing.raise_hold(
            hold, amount_nanos, min(spent_nanos, amount_nanos), account=self.order.account
        )

    @property
    def settled(self) -> Settled | None:
        """What was charged, once that has happened."""
        return self._settled

    async def settle(self, *, estimated: bool = False) -> Settled:
        """Charge for what Gemini reported, return the rest of the hold, close the upstream.

        Args:
            estimated: the last report may not have covered all that was produced.
        """
        self._ended = True
        # From here on a cancelled request must not stop half-way: the charge goes on alone.
        return await asyncio.shield(
            asyncio.ensure_future(self._settle_and_close(estimated=estimated))
        )

    async def _settle_and_close(self, *, estimated: bool) -> Settled:
        try:
            if self._settled is None:
                self._settled = await self._charge(estimated=estimated)
                if self._meter is not None:
                    self._metrics.holds_open.dec()
            return self._settled
        finally:
            await self._stream.aclose()

    async def _charge(self, *, estimated: bool) -> Settled:
        order = self.order
        hold = self._meter.hold if self._meter else Hold("", 0, None)
        usage = self.usage or TokenUsage()
        try:
            cost = cost_of(usage, order.price)
        except UnpricedUsageError:
            _log.exception("usage_without_price", completion_id=order.completion_id)
            self._metrics.unpriced.inc()
            await self._billing.release(hold)
            return Settled(0, None)
        if cost.amount_nanos == 0:
            await self._billing.release(hold)
            self._metrics.completed(order.model, usage, 0)
            return Settled(0, None)
        settled = await self._billing.settle(
            Settlement(
                key=f"settle-{order.completion_id}",
                account=order.account,
                hold_id=hold.hold_id,
                amount_nanos=cost.amount_nanos,
                description=f"{order.model}: {usage.input_tokens} in, {usage.output_tokens} out",
                usage=usage_record(usage),
                price=cost.as_price(order.model, order.catalog_version),
                metadata=self._metadata(estimated=estimated),
            )
        )
        self._metrics.completed(order.model, usage, cost.amount_nanos)
        return settled

    def _metadata(self, *, estimated: bool) -> dict[str, Any]:
        order = self.order
        metadata: dict[str, Any] = {
            "completion_id": order.completion_id,
            "request_id": order.request_id,
            "key": order.key_name,
        }
        if estimated:
            metadata["estimated"] = True
        return metadata

    def abandon(self) -> None:
        """Go on without the client: Google goes on and charges, so the answer is read to its end.

        Does nothing once the completion is settled. Never waits, so that it can be called
        from a request that is being cancelled.
        """
        if self._ended:
            return
        self._ended = True
        drain = self._drain and len(self._background) < DRAINS_MAX
        self._metrics.abandoned.labels("drain" if drain else "cancel").inc()
        self._background.start(
            self._finish_alone(drain=drain), f"finish-{self.order.completion_id}"
        )

    async def _finish_alone(self, *, drain: bool) -> None:
        complete = False
        try:
            if drain:
                async with asyncio.timeout(DRAIN_SECONDS_MAX):
                    while await self.receive():
                        pass
                complete = True
        except (GeminiError, TimeoutError) as error:
            _log.warning(
                "drain_cut_short", completion_id=self.order.completion_id, error=str(error)
            )
        finally:
            # Also when the process is told to end: what is known is charged.
            await asyncio.shield(
                asyncio.ensure_future(self._settle_and_close(estimated=not complete))
            )
