"""Hold credit for an order before it is served, and say how much output it may have."""

import asyncio
import random
from dataclasses import dataclass

from ai_proxy_service.core.authorisation import Estimate, HoldPolicy, estimate, hold_nanos
from ai_proxy_service.core.background import BackgroundTasks
from ai_proxy_service.core.errors import BillingUnavailableError, InsufficientCreditError
from ai_proxy_service.core.interfaces import BillingService, GeminiClient, Hold, HoldRequest
from ai_proxy_service.core.key_refusals import SPEND_LIMITS, KeyRefusals
from ai_proxy_service.core.meter import Meter
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.order import Order, answer_id_of
from service_kit.access_log import note
from service_kit.tracing import traced

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


class Authoriser:
    """Places the holds of all orders."""

    def __init__(
        self,
        *,
        gemini: GeminiClient,
        billing: BillingService,
        metrics: ProxyMetrics,
        refusals: KeyRefusals,
        policy: HoldPolicy,
        background: BackgroundTasks,
    ) -> None:
        self._gemini = gemini
        self._billing = billing
        self._metrics = metrics
        self._refusals = refusals
        self._policy = policy
        self._background = background
        self._last_available: dict[str, int] = {}

    @traced("authorise")
    async def authorise(self, order: Order) -> Authorised:
        """Hold credit for an order.

        Raises:
            InsufficientCreditError: the account can't pay for a useful answer.
            AccountClosedError: it may not be used.
            BillingUnavailableError: not known whether it can pay.
            GeminiError: the prompt had to be counted, and could not be.
        """
        answer_id = answer_id_of(order.completion_id)
        note(model=order.model, completion_id=answer_id, streamed=order.streamed)
        if not self._billing.enforced:
            return Authorised(None, order.all_output_tokens, lowered=False)
        cost = estimate_order(order, order.prompt_bound_tokens)
        request = HoldRequest(
            key=f"hold-{order.billing_key}",
            account=order.account,
            amount_nanos=hold_nanos(self._policy, cost, self._last_available.get(order.account)),
            request_ref=order.request_id,
            key_id=order.key_id,
        )
        try:
            hold = await self._hold(request)
        except InsufficientCreditError as refused:
            try:
                cost, hold = await self._count_and_hold(order, cost, refused)
            except InsufficientCreditError as final:
                self._note(order, final)
                raise
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

    def _note(self, order: Order, refused: InsufficientCreditError) -> None:
        """Note for the key's record that one of its spend limits does not allow an order."""
        reason = SPEND_LIMITS.get(refused.limit or "")
        if reason is not None and order.key_id is not None:
            self._refusals.note(order.key_id, reason, order.request_id)

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

    async def _count_and_hold(
        self, order: Order, bound: Estimate, refused: InsufficientCreditError
    ) -> tuple[Estimate, Hold]:
        """Hold for an account that can't afford the bound: count exactly, take what there is."""
        if is_hopeless(order, refused.available_nanos or 0) and not refused.retryable:
            raise refused
        exact_tokens = await self._gemini.count_tokens(order.model, order.body)
        prompt_tokens = min(exact_tokens, bound.prompt_tokens)
        cost = estimate_order(order, prompt_tokens)
        for attempt, wait_seconds in enumerate((*HOLD_WAITS_SECONDS, None)):
            request = HoldRequest(
                key=f"hold-{order.billing_key}-thin-{attempt}",
                account=order.account,
                amount_nanos=hold_nanos(self._policy, cost, None),
                min_amount_nanos=cost.floor_nanos,
                request_ref=order.request_id,
                key_id=order.key_id,
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


def estimate_order(order: Order, prompt_tokens: int) -> Estimate:
    """Work out what an order can cost with a prompt of so many tokens."""
    return estimate(
        order.price,
        prompt_tokens,
        order.all_output_tokens,
        tier=order.tier,
        lookups_pico=order.lookups_pico,
        audible=order.audible,
    )


def is_hopeless(order: Order, available_nanos: int) -> bool:
    """Tell whether an amount can't pay for the shortest prompt: counting would be for nothing."""
    return available_nanos < estimate(order.price, 1, 1).worst_nanos
