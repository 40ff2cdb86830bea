"""Delivers events: at least once, an account's in their order as far as retries allow.

An event is taken by lease, sent, then marked. Whoever dies in between leaves a lease that
ends, and the event is sent again under the same id.
"""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from credits_service.core.errors import LedgerUnavailableError
from credits_service.core.metrics import LedgerMetrics
from credits_service.core.moments import MICROS_PER_SECOND
from credits_service.db.webhook_outbox import Mark, WaitingEvent, WebhookOutbox
from credits_service.webhooks.retries import ATTEMPTS_MAX, pause_seconds
from credits_service.webhooks.sender import Attempt, Outcome
from service_kit.logging import get_logger

_log = get_logger(__name__)

CLAIM_MAX = 20
SENDING_MAX = 8
LEASE_SECONDS = 60.0
POLL_SECONDS = 5.0
# How long a stop waits for deliveries that are under way.
CLOSE_SECONDS = 5.0
UPKEEP_SECONDS = 60.0
KEPT_SECONDS = 7 * 86_400
PRUNED_MAX = 500


class Sending(Protocol):
    """Makes attempts."""

    @property
    def timeout_seconds(self) -> float:
        """The longest that an attempt takes."""

    async def send(self, event: WaitingEvent) -> Attempt:
        """Make one attempt; failures are outcomes."""

    async def close(self) -> None:
        """Close what is open."""


class Deliverer:
    """Takes events from the outbox, sends them and marks them, in a task of its own."""

    def __init__(
        self,
        outbox: WebhookOutbox,
        sender: Sending,
        metrics: LedgerMetrics,
        *,
        poll_seconds: float = POLL_SECONDS,
        close_seconds: float = CLOSE_SECONDS,
    ) -> None:
        self._outbox = outbox
        self._sender = sender
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._close_seconds = close_seconds
        self._slots = asyncio.Semaphore(SENDING_MAX)
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._sending: list[asyncio.Task[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._upkeep_at = 0.0

    def start(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="webhooks")

    def wake(self) -> None:
        """Look for events at once: there are new ones."""
        self._wake.set()

    async def close(self) -> None:
        """Send nothing more; what is under way may still end, for a moment."""
        self._closing.set()
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=self._close_seconds)
            for task in self._sending:
                task.cancel()
            await self._task
        await self._sender.close()

    async def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            busy = False
            try:
                busy = await self.deliver_due() > 0
                await self._keep_up()
            except LedgerUnavailableError:
                _log.warning("webhooks_delayed", reason="the ledger can't be reached")
            except Exception:  # noqa: BLE001 - logged; the next turn may do better
                _log.exception("webhooks_delayed")
                busy = False
            if not busy and not self._closing.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await self._wake.wait()

    async def deliver_due(self) -> int:
        """Try to deliver some of what is due; return how many events were taken.

        Raises:
            LedgerUnavailableError: the database can't be asked now.
        """
        # Reckoned from before the lease begins, so that it ends here first.
        until = asyncio.get_running_loop().time() + LEASE_SECONDS
        events = await self._outbox.claim(
            limit=CLAIM_MAX, lease_micros=int(LEASE_SECONDS * MICROS_PER_SECOND)
        )
        if events:
            await self._mark(await self._send_all(events, until))
        return len(events)

    async def _send_all(self, events: Sequence[WaitingEvent], until: float) -> list[Mark]:
        marks = {event.id: Mark(event.id, None, attempts=0) for event in events}
        accounts: dict[str, list[WaitingEvent]] = defaultdict(list)
        for event in events:
            accounts[event.user_id].append(event)

        async def send_in_order(own: list[WaitingEvent]) -> None:
            for event in own:
                async with self._slots:
                    left = until - asyncio.get_running_loop().time()
                    if self._closing.is_set() or left < self._sender.timeout_seconds:
                        return
                    attempt = await self._attempt(event)
                marks[event.id] = self._judge(event, attempt)

        self._sending = [asyncio.create_task(send_in_order(own)) for own in accounts.values()]
        # One that is cancelled, at a stop, leaves its mark as it is: nobody knows what came of it.
        await asyncio.gather(*self._sending, return_exceptions=True)
        return list(marks.values())

    async def _attempt(self, event: WaitingEvent) -> Attempt:
        try:
            return await self._sender.send(event)
        except Exception:  # noqa: BLE001 - it counts, or the event would be sent without end
            _log.exception("webhook_failed_unexpectedly", webhook_id=event.id)
            return Attempt(Outcome.UNREACHABLE)

    def _judge(self, event: WaitingEvent, attempt: Attempt) -> Mark:
        attempts = event.attempts + 1
        self._metrics.webhook_attempts.labels(attempt.outcome.value).inc()
        told = {
            "webhook_id": event.id,
            "kind": event.kind,
            "attempts": attempts,
            "outcome": attempt.outcome.value,
            "status": attempt.status,
        }
        if attempt.outcome is Outcome.DELIVERED:
            _log.info("webhook_delivered", **told)
            return Mark(event.id, "delivered")
        if attempt.outcome is Outcome.GONE or attempts >= ATTEMPTS_MAX:
            self._metrics.webhooks_failed.inc()
            _log.error("webhook_given_up", **told)
            return Mark(event.id, "failed")
        # Jitter, so that what failed together does not come back together.
        pause = pause_seconds(attempts, random.random(), attempt.retry_after_seconds)  # noqa: S311
        _log.warning("webhook_not_delivered", next_attempt_in_seconds=round(pause, 1), **told)
        return Mark(event.id, None, int(pause * MICROS_PER_SECOND))

    async def _mark(self, marks: list[Mark]) -> None:
        """Write down what became of events, however long it takes: else they are sent again."""
        while True:
            try:
                await self._outbox.mark(marks)
            except LedgerUnavailableError:
                if self._closing.is_set():
                    raise
                _log.warning("webhooks_not_marked", events=len(marks))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await self._closing.wait()
            else:
                return

    async def _keep_up(self) -> None:
        """Count what waits and forget what ended long ago, now and then, a little each time."""
        now = asyncio.get_running_loop().time()
        if now < self._upkeep_at:
            return
        self._metrics.webhooks_waiting.set(await self._outbox.waiting())
        age_micros = KEPT_SECONDS * MICROS_PER_SECOND
        pruned = await self._outbox.prune(age_micros=age_micros, limit=PRUNED_MAX)
        self._upkeep_at = now if pruned == PRUNED_MAX else now + UPKEEP_SECONDS
