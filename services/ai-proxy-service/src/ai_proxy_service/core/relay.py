"""The one way through: authorise, open the upstream, meter, settle.

Every surface, streaming or not, goes through here, so that none can forget to bill.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ai_proxy_service.core.authorisation import HoldPolicy
from ai_proxy_service.core.authoriser import Authorised, Authoriser
from ai_proxy_service.core.background import BackgroundTasks
from ai_proxy_service.core.beginnings import (
    WholeAnswer,
    begins_broken,
    first_chunks,
    is_unusable,
)
from ai_proxy_service.core.charging import Charger
from ai_proxy_service.core.completion import DRAINS_MAX, Completion
from ai_proxy_service.core.errors import unusable_answer
from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.core.gemini_answers import broken_finish
from ai_proxy_service.core.interfaces import BillingService, GeminiClient, GeminiStream
from ai_proxy_service.core.key_refusals import KeyRefusals
from ai_proxy_service.core.meter import Meter
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.order import Order
from ai_proxy_service.core.settlement import Settled
from ai_proxy_service.core.tries import Tries
from ai_proxy_service.core.usage import TokenUsage, UsageTally
from ai_proxy_service.core.usage_log import UsageLog
from service_kit.access_log import note, wait_for
from service_kit.logging import get_logger

_log = get_logger(__name__)
T = TypeVar("T")


class Relay:
    """Takes orders and returns completions that are paid for."""

    def __init__(
        self,
        *,
        gemini: GeminiClient,
        billing: BillingService,
        metrics: ProxyMetrics,
        refusals: KeyRefusals,
        log: UsageLog,
        policy: HoldPolicy,
        drain_on_disconnect: bool,
    ) -> None:
        self._gemini = gemini
        self._billing = billing
        self._metrics = metrics
        self._charger = Charger(billing, metrics, log)
        self._drain = drain_on_disconnect
        self._background = BackgroundTasks()
        self._authoriser = Authoriser(
            gemini=gemini,
            billing=billing,
            metrics=metrics,
            refusals=refusals,
            policy=policy,
            background=self._background,
        )
        self._opening: dict[asyncio.Task[Completion], Order] = {}
        self._running: set[Completion] = set()

    def start(self, order: Order) -> asyncio.Task[Completion]:
        """Open or, if the client wants it whole, collect a completion, in a task of its own.

        Whoever stops waiting for it has to `leave` it.
        """
        work = self.open(order) if order.streamed else self.collect(order)
        task = asyncio.create_task(work, name=f"open-{order.completion_id}")
        self._opening[task] = order
        task.add_done_callback(self._opening.pop)
        order.key_use.join()
        task.add_done_callback(lambda _: order.key_use.leave())
        return task

    def leave(self, opening: asyncio.Task[Completion]) -> None:
        """Go on without the client: read the answer to its end, or stop it, as is the policy.

        Never waits. Does nothing if the answer has been settled already.
        """
        if opening.done():
            if not opening.cancelled() and opening.exception() is None:
                opening.result().abandon()
            return
        stopped = self._opening[opening].stopped
        if stopped or not self._drain or len(self._background) >= DRAINS_MAX:
            opening.cancel()
        note(ended="client_left")
        wait_for(self._background.start(_abandon(opening), opening.get_name()))

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
        if tries.left and begins_broken(completion):
            completion = await self._repeat(tries, completion)
        if begins_broken(completion):
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
        if tries.left and not completion.cut_off and is_unusable(completion):
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
        earlier = await _read_out(unusable)
        tries.after_unusable(finish)
        completion = await self._open(tries)
        completion.earlier = earlier
        return completion

    async def _open(self, tries: Tries) -> Completion:
        authorised = await self._authoriser.authorise(tries.order)
        stream: GeminiStream | None = None
        tally = UsageTally(tries.order.tier)
        try:
            while True:
                try:
                    stream = await self._open_upstream(tries.order, authorised)
                    first, cut_off = await first_chunks(stream, tally, authorised.meter)
                    break
                except GeminiError as error:
                    if not tries.after(error):
                        raise
                    self._metrics.repeated.labels("refused").inc()
                    if stream is not None:
                        await stream.aclose()
                        stream = None
                        tally = UsageTally(tries.order.tier)
        except BaseException as error:
            # Google charges for no request that fails, but for one that was left while it thought.
            used = None if isinstance(error, GeminiError) else tally.usage
            undone = self._background.start_money(
                self._undo(tries.order, authorised.meter, stream, used),
                f"undo-{tries.order.billing_key}",
            )
            if isinstance(error, GeminiError):
                await asyncio.shield(undone)
            raise
        completion = Completion(
            tries.order,
            stream=stream,
            first=first,
            tally=tally,
            meter=authorised.meter,
            charger=self._charger,
            metrics=self._metrics,
            background=self._background,
            drain=self._drain,
            lowered_max_tokens=authorised.max_output_tokens if authorised.lowered else None,
            cut_off=cut_off,
            on_end=self._ended,
        )
        self._running.add(completion)
        tries.order.key_use.join()
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
        authorised = await self._authoriser.authorise(order)
        meter = authorised.meter
        try:
            result, usage, estimated = await call()
        except BaseException as error:
            undone = self._background.start_money(
                self._undo(order, meter, None, None), f"undo-{order.billing_key}"
            )
            if isinstance(error, GeminiError):
                await asyncio.shield(undone)
            raise
        charging = self._charger.charge(order, usage, meter, estimated=estimated)
        try:
            settled = await asyncio.shield(
                self._background.start_money(charging, f"settle-{order.billing_key}")
            )
        finally:
            if meter is not None:
                self._metrics.holds_open.dec()
        note(ended="complete")
        return result, usage, settled

    def _ended(self, completion: Completion) -> None:
        self._running.discard(completion)
        completion.order.key_use.leave()
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

    async def _undo(
        self,
        order: Order,
        meter: Meter | None,
        stream: GeminiStream | None,
        used: TokenUsage | None,
    ) -> None:
        if stream is not None:
            await stream.aclose()
        if meter is not None:
            meter.stop()
            self._metrics.holds_open.dec()
        if used is not None:
            await self._charger.charge(order, used, meter, estimated=True)
        elif meter is not None:
            await self._billing.release(meter.hold)

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


async def _read_out(unusable: Completion) -> Settled:
    """Charge for all of an answer that nobody will see; the rest of a stream is still to come."""
    # What broke off has been settled, and is charged once.
    with contextlib.suppress(GeminiError):
        await unusable.collect()
    return await unusable.settle()


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
