"""The one way through: authorise, open the upstream, meter, settle.

Every surface, streaming or not, goes through here, so that none can forget to bill.
"""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from ai_proxy_service.core.authorisation import (
    Estimate,
    HoldPolicy,
    estimate,
    hold_nanos,
    prompt_bound_tokens,
)
from ai_proxy_service.core.background import BackgroundTasks
from ai_proxy_service.core.completion import Completion, Meter, Order
from ai_proxy_service.core.errors import InsufficientCreditError
from ai_proxy_service.core.gemini import GeminiError, GenerateContentBody, GenerateContentResponse
from ai_proxy_service.core.interfaces import BillingService, GeminiClient, GeminiStream, Hold
from ai_proxy_service.core.metrics import ProxyMetrics
from service_kit.logging import get_logger

_log = get_logger(__name__)

# Credit that running requests hold comes back within moments: a burst on a thin balance
# waits this long for it before it is refused.
HOLD_WAITS_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
BALANCES_SEEN_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Authorised:
    """A request that may start.

    Attributes:
        meter: its hold; None where nothing is enforced.
        max_output_tokens: the limit to send to Gemini; None leaves the client's own.
    """

    meter: Meter | None
    max_output_tokens: int | None


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
        self._last_available: dict[str, int] = {}

    async def open(self, order: Order) -> Completion:
        """Authorise an order and return its completion with the first chunk already there.

        Raises:
            InsufficientCreditError: the account can't pay for a useful answer.
            BillingUnavailableError: not known whether it can.
            GeminiError: Gemini refused or failed; nothing was charged.
        """
        authorised = await self._authorise(order)
        body = _limited(order.body, authorised.max_output_tokens)
        stream: GeminiStream | None = None
        try:
            stream = await self._open_upstream(order, body, authorised)
            first = await stream.receive()
        except GeminiError:
            await self._undo(authorised.meter, stream)
            raise
        except BaseException:
            # The request is being cancelled: what it holds is returned without it.
            self._background.start(
                self._undo(authorised.meter, stream), f"undo-{order.completion_id}"
            )
            raise
        return Completion(
            order,
            stream=stream,
            first=first,
            meter=authorised.meter,
            billing=self._billing,
            metrics=self._metrics,
            background=self._background,
            drain=self._drain,
            lowered_max_tokens=authorised.max_output_tokens,
        )

    async def _open_upstream(
        self, order: Order, body: GenerateContentBody, authorised: Authorised
    ) -> GeminiStream:
        meter = authorised.meter
        worst_is_held = meter is None or meter.hold.amount_nanos >= meter.cost.worst_nanos
        if order.streamed or not worst_is_held:
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
            return Authorised(None, None)
        bound_tokens = prompt_bound_tokens(order.encoded_bytes)
        cost = estimate(order.price, bound_tokens, order.max_output_tokens)
        amount_nanos = hold_nanos(self._policy, cost, self._last_available.get(order.account))
        try:
            hold = await self._billing.hold(
                order.account,
                amount_nanos,
                key=f"hold-{order.completion_id}",
                request_ref=order.request_id,
            )
        except InsufficientCreditError as refused:
            cost, hold = await self._authorise_thin(order, cost, refused)
        self._remember(order.account, hold)
        self._metrics.holds_open.inc()
        limit = self._affordable_tokens(hold, cost)
        lowered = limit if limit < cost.max_output_tokens else None
        # Metered up to the request's own limit, should Gemini not keep to the lowered one.
        meter = Meter(hold, cost)
        meter.reset(hold)
        return Authorised(meter, lowered)

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
        amount_nanos = hold_nanos(self._policy, cost, None)
        for attempt, wait_seconds in enumerate((*HOLD_WAITS_SECONDS, None)):
            try:
                hold = await self._billing.hold(
                    order.account,
                    amount_nanos,
                    min_amount_nanos=cost.floor_nanos,
                    # A refusal is remembered under its key, so each try has its own.
                    key=f"hold-{order.completion_id}-{attempt}",
                    request_ref=order.request_id,
                )
            except InsufficientCreditError as again:
                if wait_seconds is None or not again.retryable:
                    raise
                # Spread out, or all that wait would come back together.
                await asyncio.sleep(wait_seconds * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            else:
                return cost, hold
        raise refused

    def _remember(self, account: str, hold: Hold) -> None:
        """Note what an account was last seen to have: a hint for the size of its next hold."""
        if hold.available_nanos is None:
            return
        if len(self._last_available) >= BALANCES_SEEN_MAX:
            self._last_available.clear()
        self._last_available[account] = hold.available_nanos

    async def aclose(self, timeout_seconds: float) -> None:
        """Wait for what runs without a client, then settle the rest as it stands."""
        await self._background.finish(timeout_seconds)


def _limited(body: GenerateContentBody, max_output_tokens: int | None) -> GenerateContentBody:
    if max_output_tokens is None:
        return body
    config: dict[str, Any] = {
        **body.get("generationConfig", {}),
        "maxOutputTokens": max_output_tokens,
    }
    return {**body, "generationConfig": config}


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
