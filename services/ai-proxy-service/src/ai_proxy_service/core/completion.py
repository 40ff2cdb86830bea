"""One completion while it runs: metered as it grows, settled once, whatever happens to it."""

import asyncio
from collections.abc import Callable
from typing import Any

from ai_proxy_service.core.background import BackgroundTasks
from ai_proxy_service.core.gemini import GeminiError, GenerateContentResponse
from ai_proxy_service.core.interfaces import (
    BillingService,
    GeminiStream,
    Hold,
    Settled,
    Settlement,
)
from ai_proxy_service.core.meter import Meter
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.order import Order
from ai_proxy_service.core.pricing import cost_of, usage_record
from ai_proxy_service.core.usage import TokenUsage, usage_of
from service_kit.logging import get_logger

_log = get_logger(__name__)

DRAIN_SECONDS_MAX = 600.0
DRAINS_MAX = 512


class Completion:
    """An answer on its way from Gemini, paid for as it comes.

    `receive` until it returns nothing, then `settle`; or `abandon` at any moment.

    Attributes:
        order: what was asked for.
        usage: what Gemini has reported so far; None before its first report.
        cut_off: the account's credit ended before the answer did.
        lowered_max_tokens: the output limit sent to Gemini, if credit made it a lower one.
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
        on_end: Callable[["Completion"], None],
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
        self._on_end = on_end
        self._settling: asyncio.Task[Settled] | None = None
        self._abandoned = False
        self._note_usage(first)

    async def receive(self) -> list[GenerateContentResponse]:
        """Return the chunks that have arrived; an empty list is the end.

        Cancelling it loses nothing.

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
            self.cut_off = await self._meter.follow(self.usage)
            if self.cut_off:
                await self._stream.aclose()
        return chunks

    def _note_usage(self, chunks: list[GenerateContentResponse]) -> None:
        # Counts are cumulative: the last report is the right one, never the sum.
        for chunk in reversed(chunks):
            if chunk.usage_metadata is not None:
                self.usage = usage_of(chunk.usage_metadata)
                return

    async def settle(self, *, estimated: bool = False) -> Settled:
        """Charge for what Gemini reported, return the rest of the hold, close the upstream.

        Args:
            estimated: the last report may not have covered all that was produced.
        """
        # In a task of its own: a cancelled request must not stop the charge half-way.
        return await asyncio.shield(self._start_settling(estimated=estimated))

    def _start_settling(self, *, estimated: bool) -> asyncio.Task[Settled]:
        if self._settling is None:
            self._settling = self._background.start_money(
                self._settle(estimated=estimated), f"settle-{self.order.completion_id}"
            )
        return self._settling

    async def _settle(self, *, estimated: bool) -> Settled:
        if self._meter is not None:
            self._meter.stop()
        try:
            return await self._charge(estimated=estimated)
        finally:
            self._on_end(self)
            await self._stream.aclose()

    async def _charge(self, *, estimated: bool) -> Settled:
        order = self.order
        hold = self._meter.hold if self._meter else Hold("", 0, None)
        usage = self.usage or TokenUsage()
        cost = cost_of(usage, order.price)
        self._metrics.completed(order.model, usage, cost.amount_nanos)
        if cost.amount_nanos == 0:
            await self._billing.release(hold)
            return Settled(0, None)
        return await self._billing.settle(
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

        Does nothing if that, or settling, has begun. Never waits, so that it can be called
        from a request that is being cancelled.
        """
        if self._abandoned or self._settling is not None:
            return
        self._abandoned = True
        drain = self._drain and len(self._background) < DRAINS_MAX
        self._metrics.abandoned.labels("drain" if drain else "cancel").inc()
        if drain:
            self._background.start(self._drain_stream(), f"drain-{self.order.completion_id}")
        else:
            self._start_settling(estimated=True)

    async def _drain_stream(self) -> None:
        complete = False
        try:
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
            self._start_settling(estimated=not complete)
