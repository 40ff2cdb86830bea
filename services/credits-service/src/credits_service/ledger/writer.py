"""The one writer of a process: what queues while a batch is in flight is the next batch.

One row per account is the serial point of a ledger, and its lock is kept until the commit is
on disk; so charges that share a commit cost a fraction of those that have one each. There is
no artificial delay: a lone command is a batch of one, at once.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from credits_service.core.errors import AccountsLockedError, LedgerUnavailableError
from credits_service.core.metrics import LedgerMetrics
from credits_service.ledger.batch import Command, Result
from service_kit.logging import get_logger
from service_kit.spans import Span, current_span
from service_kit.tracing import batch_span

if TYPE_CHECKING:
    from credits_service.ledger.idempotency import IdempotencyKey

_log = get_logger(__name__)

MAX_BATCH = 500
MAX_QUEUE = 20_000
DUPLICATE_WAIT_SECONDS = 2.0
CLOSE_SECONDS = 10.0


class Store(Protocol):
    """Where batches are executed."""

    async def execute(self, commands: Sequence[Command]) -> list[Result]:
        """Run the commands in one transaction and return a result for each.

        Raises:
            AccountsLockedError: some of the commands can't be run now; the others can.
            LedgerUnavailableError: the ledger can't be asked now.
        """


class DuplicateInFlightError(Exception):
    """The first request with this key has no answer yet."""


class _Job(NamedTuple):
    command: Command
    future: asyncio.Future[Result]
    span: Span


class Writer:
    """Queues commands, runs them in batches in a task of its own, answers each.

    A client that goes away cancels nothing: its command has its place in the queue.
    """

    def __init__(
        self,
        store: Store,
        metrics: LedgerMetrics,
        *,
        max_batch: int = MAX_BATCH,
        max_queue: int = MAX_QUEUE,
        duplicate_wait_seconds: float = DUPLICATE_WAIT_SECONDS,
        close_seconds: float = CLOSE_SECONDS,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._duplicate_wait_seconds = duplicate_wait_seconds
        self._close_seconds = close_seconds
        self._queue: deque[_Job] = deque()
        self._by_key: dict[IdempotencyKey, asyncio.Future[Result]] = {}
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take commands."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="ledger-writer")

    async def close(self) -> None:
        """Take no more commands, finish those that are queued, and stop.

        What a database that does not answer leaves in the queue is refused in the end: it was
        not begun.
        """
        self._closing = True
        self._wake.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=self._close_seconds)
        while self._queue:
            self._fail(self._queue.popleft(), LedgerUnavailableError())
        await self._task

    async def submit(self, command: Command) -> Result:
        """Run a command and return its result.

        Raises:
            LedgerUnavailableError: the ledger can't be asked now.
            DuplicateInFlightError: the first request with its key is not answered in time.
        """
        key = command.key
        if key is not None:
            first = self._by_key.get(key)
            if first is not None:
                await self._wait_for(first)
        # A request that is cancelled marks its future, and nothing else: its command is run.
        return await self._enqueue(command)

    async def submit_many(self, commands: Sequence[Command]) -> list[Result | Exception]:
        """Run commands as one group and return what `submit` returns or raises for each.

        They are queued in their order, so of two with one key the second is a replay. Only one
        whose key has a first request from elsewhere comes later, once that is answered.
        """
        firsts = {
            at: self._by_key[command.key]
            for at, command in enumerate(commands)
            if command.key in self._by_key
        }
        outcomes: dict[int, asyncio.Future[Result] | Exception] = {
            at: self._try_enqueue(command)
            for at, command in enumerate(commands)
            if at not in firsts
        }
        if firsts:
            await asyncio.wait(set(firsts.values()), timeout=self._duplicate_wait_seconds)
        for at, first in firsts.items():
            in_time = first.done()
            outcomes[at] = self._try_enqueue(commands[at]) if in_time else DuplicateInFlightError()
        futures = [found for found in outcomes.values() if isinstance(found, asyncio.Future)]
        if futures:
            await asyncio.wait(futures)
        return [_outcome(outcomes[at]) for at in range(len(commands))]

    def _try_enqueue(self, command: Command) -> asyncio.Future[Result] | LedgerUnavailableError:
        try:
            return self._enqueue(command)
        except LedgerUnavailableError as error:
            return error

    def _enqueue(self, command: Command) -> asyncio.Future[Result]:
        if self._closing or len(self._queue) >= self._max_queue:
            raise LedgerUnavailableError
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        if command.key is not None:
            self._by_key[command.key] = future
        self._queue.append(_Job(command, future, current_span()))
        self._wake.set()
        return future

    async def _wait_for(self, first: asyncio.Future[Result]) -> None:
        """Wait until the first command with the same key is done, whatever comes of it."""
        done, _pending = await asyncio.wait({first}, timeout=self._duplicate_wait_seconds)
        if not done:
            raise DuplicateInFlightError

    async def _run(self) -> None:
        while self._queue or not self._closing:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            count = min(len(self._queue), self._max_batch)
            await self._run_batch([self._queue.popleft() for _ in range(count)])

    async def _run_batch(self, jobs: list[_Job]) -> None:
        self._metrics.batch_size.observe(len(jobs))
        try:
            with (
                self._metrics.batch_duration.time(),
                batch_span("ledger.batch", (job.span for job in jobs)) as span,
            ):
                span.set({"ledger.batch.commands": len(jobs)})
                results = await self._store.execute([job.command for job in jobs])
        except AccountsLockedError as error:
            await self._run_unlocked(jobs, error)
        except LedgerUnavailableError as error:
            _log.warning("ledger_unavailable", commands=len(jobs), cause=repr(error.__cause__))
            self._metrics.unavailable.inc(len(jobs))
            for job in jobs:
                self._fail(job, LedgerUnavailableError())
        except Exception as error:  # noqa: BLE001 - whatever it is, each command gets an answer
            _log.exception("batch_failed", commands=len(jobs))
            await self._run_one_by_one(jobs, error)
        else:
            for job, result in zip(jobs, results, strict=True):
                self._forget(job)
                if not job.future.done():
                    job.future.set_result(result)

    async def _run_unlocked(self, jobs: list[_Job], error: AccountsLockedError) -> None:
        """Refuse what can't be run now; its neighbours go on."""
        _log.warning("accounts_locked", commands=len(error.positions))
        self._metrics.unavailable.inc(len(error.positions))
        for at in error.positions:
            self._fail(jobs[at], LedgerUnavailableError())
        rest = [job for at, job in enumerate(jobs) if at not in error.positions]
        if rest:
            await self._run_batch(rest)

    async def _run_one_by_one(self, jobs: list[_Job], error: Exception) -> None:
        """After a failure that nobody foresaw: one bad command must not fail its neighbours."""
        if len(jobs) == 1:
            self._fail(jobs[0], error)
            return
        for job in jobs:
            await self._run_batch([job])

    def _fail(self, job: _Job, error: Exception) -> None:
        self._forget(job)
        if job.future.done():
            return
        job.future.set_exception(error)
        # Its client may have left: an exception that nobody fetches is not news.
        job.future.exception()

    def _forget(self, job: _Job) -> None:
        key = job.command.key
        if key is not None and self._by_key.get(key) is job.future:
            del self._by_key[key]


def _outcome(found: "asyncio.Future[Result] | Exception") -> Result | Exception:
    if isinstance(found, Exception):
        return found
    error = found.exception()
    assert error is None or isinstance(error, Exception)
    return error or found.result()
