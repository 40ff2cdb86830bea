"""The one way through: authorise, open the upstream, meter, settle.

Every surface, streaming or not, goes through here, so that none can forget to bill.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from ai_proxy_service.core.authorisation import (
    Estimate,
    HoldPolicy,
    estimate,
    hold_nanos,
)
from ai_proxy_service.core.background import BackgroundTasks
from ai_proxy_service.core.charging import charge
from ai_proxy_service.core.completion import DRAINS_MAX, Completion
from ai_proxy_service.core.errors import (
    BillingUnavailableError,
    InsufficientCreditError,
    unusable_answer,
)
from ai_proxy_service.core.gemini import (
    GeminiError,
    GenerateContentResponse,
    broken_finish,
    never_ends,
    says_nothing,
    shows_something,
)
from ai_proxy_service.core.interfaces import (
    NO_HOLD,
    BillingService,
    GeminiClient,
    GeminiStream,
    Hold,
    HoldRequest,
    Settled,
)
from ai_proxy_service.core.meter import Meter
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.order import Order
from ai_proxy_service.core.tries import Tries
from ai_proxy_service.core.usage import TokenUsage, UsageTally
from service_kit.logging import get_logger

_log = get_logger(__name__)
T = TypeVar("T")

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
        self._opening: set[asyncio.Task[Completion]] = set()
        self._running: set[Completion] = set()
        self._last_available: dict[str, int] = {}

    def start(self, order: Order) -> asyncio.Task[Completion]:
        """Open or, if the client wants it whole, collect a completion, in a task of its own.

        Whoever stops waiting for it has to `leave` it.
        """
        work = self.open(order) if order.streamed else self.collect(order)
        task = asyncio.create_task(work, name=f"open-{order.completion_id}")
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return task

    def leave(self, opening: asyncio.Task[Completion]) -> None:
        """Go on without the client: read the answer to its end, or stop it, as is the policy.

        Never waits. Does nothing if the answer has been settled already.
        """
        if opening.done():
            if not opening.cancelled() and opening.exception() is None:
                opening.result().abandon()
            return
        if not self._drain or len(self._background) >= DRAINS_MAX:
            opening.cancel()
        self._background.start(_abandon(opening), opening.get_name())

    async def open(self, order: Order) -> Completion:
        """Authorise an order and return its completion with the first chunk already there.

        Raises:
            InsufficientCreditError: the account can't pay for a useful answer.
            AccountClosedError: it may not be used.
            BillingUnavailableError: not known whether it can pay.
            GeminiError: Gemini refused or failed; nothing was charged.
            UpstreamError: the answer can't be used, nor a second one; both were charged.
        """
        tries = Tries(order)
        completion = await self._open(tries)
        if tries.left and _begins_broken(completion):
            completion = await self._repeat(tries, completion)
        if _begins_broken(completion):
            await _read_out(completion)
            raise unusable_answer(broken_finish(completion.first))
        return completion

    async def collect(self, order: Order) -> Completion:
        """Authorise an order and return its completion once all of it has come.

        Raises:
            ServiceError, GeminiError: as `open`; what was used before it broke off is charged.
        """
        tries = Tries(order)
        completion = await self._open(tries)
        await completion.collect()
        if tries.left and not completion.cut_off and _is_unusable(completion):
            completion = await self._repeat(tries, completion)
            await completion.collect()
        return completion

    async def _repeat(self, tries: Tries, unusable: Completion) -> Completion:
        """Charge for an answer that can't be used, as Google does, and ask once more."""
        finish = broken_finish(unusable.collected or unusable.first)
        _log.warning(
            "answer_unusable",
            completion_id=unusable.order.completion_id,
            model=unusable.order.model,
            finish_reason=finish,
        )
        self._metrics.repeated.labels("unusable").inc()
        await _read_out(unusable)
        tries.after_unusable(finish)
        return await self._open(tries)

    async def _open(self, tries: Tries) -> Completion:
        authorised = await self._authorise(tries.order)
        stream: GeminiStream | None = None
        try:
            while True:
                try:
                    stream = await self._open_upstream(tries.order, authorised)
                    first, cut_off = await _first_chunks(stream, tries.order, authorised.meter)
                    break
                except GeminiError as error:
                    if not tries.after(error):
                        raise
                    self._metrics.repeated.labels("refused").inc()
                    if stream is not None:
                        await stream.aclose()
                        stream = None
        except BaseException as error:
            undone = self._background.start_money(
                self._undo(authorised.meter, stream), f"undo-{tries.order.billing_key}"
            )
            if isinstance(error, GeminiError):
                await asyncio.shield(undone)
            raise
        completion = Completion(
            tries.order,
            stream=stream,
            first=first,
            meter=authorised.meter,
            billing=self._billing,
            metrics=self._metrics,
            background=self._background,
            drain=self._drain,
            lowered_max_tokens=authorised.max_output_tokens if authorised.lowered else None,
            cut_off=cut_off,
            on_end=self._ended,
        )
        self._running.add(completion)
        return completion

    async def call(
        self, order: Order, call: Callable[[], Awaitable[tuple[T, TokenUsage, bool]]]
    ) -> tuple[T, TokenUsage, Settled]:
        """Make a call that is no completion, paid for in the same way.

        Args:
            order: what is asked for.
            call: makes it; returns its result, what that used, and whether this is an estimate.

        Raises:
            ServiceError, GeminiError: as `open`; nothing was charged.
        """
        authorised = await self._authorise(order)
        meter = authorised.meter
        try:
            result, usage, estimated = await call()
        except BaseException as error:
            undone = self._background.start_money(
                self._undo(meter, None), f"undo-{order.billing_key}"
            )
            if isinstance(error, GeminiError):
                await asyncio.shield(undone)
            raise
        charging = charge(
            order,
            usage,
            meter.hold if meter else NO_HOLD,
            billing=self._billing,
            metrics=self._metrics,
            estimated=estimated,
        )
        try:
            settled = await asyncio.shield(
                self._background.start_money(charging, f"settle-{order.billing_key}")
            )
        finally:
            if meter is not None:
                self._metrics.holds_open.dec()
        return result, usage, settled

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
            return Authorised(None, order.all_output_tokens, lowered=False)
        cost = _estimate(order, order.prompt_bound_tokens)
        request = HoldRequest(
            key=f"hold-{order.billing_key}",
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
        cost = _estimate(order, prompt_tokens)
        for attempt, wait_seconds in enumerate((*HOLD_WAITS_SECONDS, None)):
            request = HoldRequest(
                key=f"hold-{order.billing_key}-thin-{attempt}",
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
        for opening in tuple(self._opening):
            self.leave(opening)
        for completion in tuple(self._running):
            completion.abandon()
        await self._background.finish(timeout_seconds)
        # Whatever was told to end in the very moment in which it began is ended here.
        openings = set(self._opening)
        for opening in openings:
            opening.cancel()
        if openings:
            await asyncio.wait(openings)
        for completion in tuple(self._running):
            await completion.settle(estimated=True)
        await self._background.finish(0)


def _estimate(order: Order, prompt_tokens: int) -> Estimate:
    return estimate(
        order.price,
        prompt_tokens,
        order.all_output_tokens,
        tier=order.tier,
        lookups_pico=order.lookups_pico,
        audible=order.audible,
    )


async def _first_chunks(
    stream: GeminiStream, order: Order, meter: Meter | None
) -> tuple[list[GenerateContentResponse], bool]:
    """Return what has come once there is something to show: before that, all can be undone.

    A model may think for long without showing it: that is metered, too, and the second value tells
    whether the account's credit has ended meanwhile.
    """
    first = await stream.receive()
    tally = UsageTally(order.tier)
    tally.note(first)
    while first and not shows_something(first):
        if meter is not None and await meter.follow(tally):
            return first, True
        more = await stream.receive()
        if not more:
            break
        tally.note(more)
        first += more
    return first, False


async def _read_out(unusable: Completion) -> None:
    """Charge for all of an answer that nobody will see; the rest of a stream is still to come."""
    try:
        await unusable.collect()
    except GeminiError:
        return  # it has been settled
    await unusable.settle()


def _begins_broken(completion: Completion) -> bool:
    """Tell whether a stream has ended before there was anything to show, or says that it failed."""
    first = completion.first
    if completion.cut_off:
        return False
    if broken_finish(first) is not None:
        return True
    if shows_something(first):
        return False
    return never_ends(first) or not completion.order.may_be_empty


def _is_unusable(completion: Completion) -> bool:
    """Tell whether a whole answer can't be shown to a client as one."""
    answer = completion.collected
    if broken_finish(answer) is not None or never_ends(answer):
        return True
    return says_nothing(answer) and not completion.order.may_be_empty


async def _abandon(opening: asyncio.Task[Completion]) -> None:
    """Abandon a completion that nobody waits for, once it is there."""
    try:
        completion = await opening
    except asyncio.CancelledError:
        if opening.cancelled():
            return
        # The process ends: what is running is told to, and charges what it has used.
        opening.cancel()
        if opening.done() and opening.exception() is None:
            opening.result().abandon()
        raise
    except Exception as error:  # noqa: BLE001 - nobody is left to be told
        _log.info("left_completion_failed", error=f"{type(error).__name__}: {error}")
    else:
        completion.abandon()


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
