"""The one way through: authorise, open the upstream, meter, settle.

Every surface, streaming or not, goes through here, so that none can forget to bill.
"""

import asyncio
import random
from dataclasses import dataclass

from ai_proxy_service.core.authorisation import (
    Estimate,
    HoldPolicy,
    estimate,
    hold_nanos,
    prompt_bound_tokens,
)
from ai_proxy_service.core.background import BackgroundTasks
from ai_proxy_service.core.completion import Completion
from ai_proxy_service.core.errors import BillingUnavailableError, InsufficientCreditError
from ai_proxy_service.core.gemini import GeminiError, GenerateContentResponse
from ai_proxy_service.core.interfaces import (
    BillingService,
    GeminiClient,
    GeminiStream,
    Hold,
    HoldRequest,
)
from ai_proxy_service.core.meter import Meter
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.order import Order

# Credit that running requests hold comes back within moments: a burst on a thin balance
# waits this long for it before it is refused.
HOLD_WAITS_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
BALANCES_SEEN_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Authorised:
    """A request that may start.

    Attributes:
        meter: its hold; None where nothing is enforced.
        max_output_tokens: the limit to send to Gemini.
        lowered: whether credit made it a lower one.
    """

    meter: Meter | None
    max_output_tokens: int
    lowered: bool


class Relay:
    """Takes orders and returns completions that are paid for."""

    def __init__(
        self,
        *,
        gemini: GeminiClient,
        billing: BillingService,
        metrics: ProxyMetrics,
        policy: HoldPolicy,
        drain_on_disconnect: bool,
    ) -> None:
        self._gemini = gemini
        self._billing = billing
        self._metrics = metrics
        self._policy = policy
        self._drain = drain_on_disconnect
        self._background = BackgroundTasks()
        self._running: set[Completion] = set()
        self._last_available: dict[str, int] = {}

    async def open(self, order: Order) -> Completion:
        """Authorise an order and return its completion with the first chunk already there.

        Raises:
            InsufficientCreditError: the account can't pay for a useful answer.
            AccountClosedError: it may not be used.
            BillingUnavailableError: not known whether it can pay.
            GeminiError: Gemini refused or failed; nothing was charged.
        """
        authorised = await self._authorise(order)
        stream: GeminiStream | None = None
        try:
            stream = await self._open_upstream(order, authorised)
            first = await stream.receive()
        except BaseException as error:
            undone = self._background.start_money(
                self._undo(authorised.meter, stream), f"undo-{order.completion_id}"
            )
            if isinstance(error, GeminiError):
                await asyncio.shield(undone)
            raise
        completion = Completion(
            order,
            stream=stream,
            first=first,
            meter=authorised.meter,
            billing=self._billing,
            metrics=self._metrics,
            background=self._background,
            drain=self._drain,
            lowered_max_tokens=authorised.max_output_tokens if authorised.lowered else None,
            on_end=self._ended,
        )
        self._running.add(completion)
        return completion

    def _ended(self, completion: Completion) -> None:
        self._running.discard(completion)
        if self._billing.enforced:
            self._metrics.holds_open.dec()

    async def _open_upstream(self, order: Order, authorised: Authorised) -> GeminiStream:
        # Always with a limit: what is held assumes one.
        body = order.limited_body(authorised.max_output_tokens)
        meter = authorised.meter
        if order.streamed or (meter is not None and not meter.holds_worst):
            # What is not fully held is metered as it grows, also when the client wants it whole.
            return await self._gemini.generate_completion_stream(order.model, body)
        return WholeAnswer(await self._gemini.generate_completion(order.model, body))

    async def _undo(self, meter: Meter | None, stream: GeminiStream | None) -> None:
        if stream is not None:
            await stream.aclose()
        if meter is not None:
            self._metrics.holds_open.dec()
            await self._billing.release(meter.hold)

    async def _authorise(self, order: Order) -> Authorised:
        if not self._billing.enforced:
            return Authorised(None, order.max_output_tokens, lowered=False)
        bound_tokens = prompt_bound_tokens(order.encoded_bytes)
        cost = estimate(order.price, bound_tokens, order.max_output_tokens)
        request = HoldRequest(
            key=f"hold-{order.completion_id}",
            account=order.account,
            amount_nanos=hold_nanos(self._policy, cost, self._last_available.get(order.account)),
            request_ref=order.request_id,
        )
        try:
            hold = await self._hold(request)
        except InsufficientCreditError as refused:
            cost, hold = await self._authorise_thin(order, cost, refused)
        self._remember(order.account, hold)
        self._metrics.holds_open.inc()
        limit = self._affordable_tokens(hold, cost)
        meter = Meter(
            order,
            hold,
            cost,
            limit_tokens=limit,
            billing=self._billing,
            background=self._background,
            metrics=self._metrics,
        )
        return Authorised(meter, limit, lowered=limit < cost.max_output_tokens)

    async def _hold(self, request: HoldRequest) -> Hold:
        try:
            return await self._billing.hold(request)
        except (BillingUnavailableError, asyncio.CancelledError):
            # It may have been placed all the same, and must not keep the credit.
            self._background.start(self._billing.withdraw(request), f"withdraw-{request.key}")
            raise

    def _affordable_tokens(self, hold: Hold, cost: Estimate) -> int:
        """Return the output that the account could pay for when the request started."""
        besides = hold.available_nanos or 0
        within = hold.amount_nanos + (besides if self._policy is HoldPolicy.WINDOWED else 0)
        return cost.output_tokens_for(within)

    async def _authorise_thin(
        self, order: Order, bound: Estimate, refused: InsufficientCreditError
    ) -> tuple[Estimate, Hold]:
        """Hold for an account that can't afford the bound: count exactly, take what there is."""
        least_nanos = estimate(order.price, 1, 1).worst_nanos
        if (refused.available_nanos or 0) < least_nanos and not refused.retryable:
            raise refused
        exact_tokens = await self._gemini.count_tokens(order.model, order.body)
        prompt_tokens = min(exact_tokens, bound.prompt_tokens)
        cost = estimate(order.price, prompt_tokens, order.max_output_tokens)
        for attempt, wait_seconds in enumerate((*HOLD_WAITS_SECONDS, None)):
            request = HoldRequest(
                key=f"hold-{order.completion_id}-{attempt}",
                account=order.account,
                amount_nanos=hold_nanos(self._policy, cost, None),
                min_amount_nanos=cost.floor_nanos,
                request_ref=order.request_id,
            )
            try:
                return cost, await self._hold(request)
            except InsufficientCreditError as again:
                if wait_seconds is None or not again.retryable:
                    raise
            # Spread out, or all that wait would come back together.
            await asyncio.sleep(wait_seconds * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        raise refused

    def _remember(self, account: str, hold: Hold) -> None:
        """Note what an account was last seen to have: a hint for the size of its next hold."""
        if hold.available_nanos is None:
            return
        if len(self._last_available) >= BALANCES_SEEN_MAX:
            self._last_available.clear()
        self._last_available[account] = hold.available_nanos

    async def aclose(self, timeout_seconds: float) -> None:
        """End what runs: read on for a while, then settle the rest as it stands.

        The server closes the app before the requests that it cancels have noticed.
        """
        for completion in tuple(self._running):
            completion.abandon()
        await self._background.finish(timeout_seconds)


class WholeAnswer:
    """An answer that came in one piece, read as a stream of one chunk."""

    def __init__(self, answer: GenerateContentResponse) -> None:
        self._left = [answer]

    async def receive(self) -> list[GenerateContentResponse]:
        """Return the answer, and then the end."""
        chunks, self._left = self._left, []
        return chunks

    async def aclose(self) -> None:
        """Nothing is open."""
