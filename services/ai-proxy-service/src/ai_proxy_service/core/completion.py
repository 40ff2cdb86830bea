"""One completion while it runs: metered as it grows, settled once, whatever happens to it."""

import asyncio
from collections.abc import Callable

from ai_proxy_service.core.background import BackgroundTasks
from ai_proxy_service.core.charging import Charger
from ai_proxy_service.core.gemini import GeminiError, GenerateContentResponse
from ai_proxy_service.core.interfaces import GeminiStream
from ai_proxy_service.core.meter import Meter
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.order import Order
from ai_proxy_service.core.settlement import Settled
from ai_proxy_service.core.usage import TokenUsage, UsageTally
from service_kit.access_log import note, wait_for
from service_kit.logging import get_logger

_log = get_logger(__name__)

DRAIN_SECONDS_MAX = 600.0
DRAIN_BYTES_MAX = 64 * 1024 * 1024
DRAINS_MAX = 512


class Completion:
    """An answer on its way from Gemini, paid for as it comes.

    `receive` until it returns nothing, then `settle`; or `abandon` at any moment.

    Attributes:
        order: what was asked for.
        cut_off: the account's credit ended before the answer did.
        lowered_max_tokens: the output limit sent to Gemini, if credit made it a lower one.
        first: what had come when it was opened.
        collected: all of it, where the answer was collected before it was handed over.
        earlier: what became of the charge for a first attempt, which nobody saw.
    """

    def __init__(
        self,
        order: Order,
        *,
        stream: GeminiStream,
        first: list[GenerateContentResponse],
        tally: UsageTally,
        meter: Meter | None,
        charger: Charger,
        metrics: ProxyMetrics,
        background: BackgroundTasks,
        drain: bool,
        lowered_max_tokens: int | None,
        cut_off: bool,
        on_end: Callable[["Completion"], None],
    ) -> None:
        self.order = order
        self._tally = tally
        self.cut_off = cut_off
        self.lowered_max_tokens = lowered_max_tokens
        self._stream = stream
        self.first = tuple(first)
        self.collected: list[GenerateContentResponse] = []
        self.earlier: Settled | None = None
        self._unread = first
        self._meter = meter
        self._charger = charger
        self._metrics = metrics
        self._background = background
        self._drain = drain
        self._on_end = on_end
        self._settling: asyncio.Task[Settled] | None = None
        self._collecting = False
        self._abandoned = False
        self._broken = False

    async def receive(self) -> list[GenerateContentResponse]:
        """Return the chunks that have arrived; an empty list is the end.

        Cancelling it loses nothing.

        Raises:
            GeminiError: the answer broke off; it still has to be settled.
        """
        if self.cut_off:
            return []
        chunks, self._unread = self._unread, []
        if not chunks:
            try:
                chunks = await self._stream.receive()
            except GeminiError:
                self._broken = True
                raise
            self._tally.note(chunks)
        if self._meter is not None and chunks:
            self.cut_off = await self._meter.follow(self._tally)
            if self.cut_off:
                await self._stream.aclose()
        return chunks

    async def collect(self) -> None:
        """Receive all of it; whatever ends that early, what was used is charged.

        Raises:
            GeminiError: the answer broke off; it has been settled.
        """
        self._collecting = True
        try:
            while chunks := await self.receive():
                self.collected += chunks
            self._collecting = False
        except GeminiError:
            await self.settle(estimated=True)
            raise
        except BaseException:
            self._collecting = False
            self.abandon()
            raise

    def ran_out(self, *, reached_limit: bool) -> bool:
        """Tell whether the answer is shorter for lack of credit.

        Args:
            reached_limit: it ended at its output limit, which credit may have lowered.
        """
        return self.cut_off or (reached_limit and self.lowered_max_tokens is not None)

    @property
    def usage(self) -> TokenUsage | None:
        """What Gemini has reported so far; None before its first report."""
        return self._tally.usage

    async def settle(self, *, estimated: bool = False) -> Settled:
        """Charge for what Gemini reported, return the rest of the hold, close the upstream.

        Args:
            estimated: the last report may not have covered all that was produced.

        Returns:
            What was charged for the answer, a first attempt included.
        """
        # In a task of its own: a cancelled request must not stop the charge half-way.
        settled = await asyncio.shield(self._start_settling(estimated=estimated))
        return settled.after(self.earlier)

    def _start_settling(self, *, estimated: bool) -> asyncio.Task[Settled]:
        if self._settling is None:
            self._settling = self._background.start_money(
                self._settle(estimated=estimated), f"settle-{self.order.billing_key}"
            )
        return self._settling

    async def _settle(self, *, estimated: bool) -> Settled:
        if self._meter is not None:
            self._meter.stop()
        note(ended=self._how_it_ended(estimated=estimated))
        try:
            return await self._charger.charge(
                self.order,
                self.usage or TokenUsage(),
                self._meter,
                # What was stopped may have produced more than Gemini had reported.
                estimated=estimated or self.cut_off,
            )
        finally:
            self._on_end(self)
            await self._stream.aclose()

    def _how_it_ended(self, *, estimated: bool) -> str:
        """Return the access line's word for it."""
        if self._abandoned:
            return "client_left"
        if self._broken:
            return "upstream_error"
        if self.cut_off:
            return "cut_off"
        return "stopped" if estimated else "complete"

    def abandon(self) -> None:
        """Go on without the client: Google goes on and charges, so the answer is read to its end.

        Does nothing if that, or settling, has begun, nor while it is being collected: that goes
        on by itself, and a second reader would take its chunks. Never waits, so that it can be
        called from a request that is being cancelled.
        """
        if self._abandoned or self._collecting or self._settling is not None:
            return
        self._abandoned = True
        # What somebody else may answer by now is stopped, so that two don't run for one key.
        drain = self._drain and len(self._background) < DRAINS_MAX and not self.order.stopped
        self._metrics.abandoned.labels("drain" if drain else "cancel").inc()
        if drain:
            draining = self._drain_stream()
            wait_for(self._background.start(draining, f"drain-{self.order.completion_id}"))
        else:
            self._start_settling(estimated=True)

    async def _drain_stream(self) -> None:
        complete = False
        try:
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                complete = await self._read_on()
            if not complete:
                self._log_cut_short(f"more than {DRAIN_BYTES_MAX} bytes")
        except (GeminiError, TimeoutError) as error:
            self._log_cut_short(f"{type(error).__name__}: {error}")
        finally:
            # Also when the process is told to end: what is known is charged.
            self._start_settling(estimated=not complete)

    async def _read_on(self) -> bool:
        """Read what nobody waits for; return whether its end was reached."""
        bytes_max = self._stream.received_bytes + DRAIN_BYTES_MAX
        while await self.receive():
            if self._stream.received_bytes > bytes_max:
                return False
        return True

    def _log_cut_short(self, reason: str) -> None:
        _log.warning("drain_cut_short", completion_id=self.order.completion_id, error=reason)
