"""Holds and charges on their way to the ledger: what waits while it answers goes together.

An idle gateway sends each by itself, at once. A busy one has others waiting by the time that an
answer comes, and sends them as one `POST /api/v1/batch`, for a fraction of the work that a call of
its own for each would be. Each is decided by itself, under its own key and request id.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from ai_proxy_service.core.errors import (
    AccountClosedError,
    BillingUnavailableError,
    InsufficientCreditError,
)
from ai_proxy_service.services import credits_api
from ai_proxy_service.services.credits_api import CreditsApi, LedgerRefusalError, answer_of
from service_kit.logging import get_logger
from service_kit.request_id import current_request_id
from service_kit.spans import current_span

_log = get_logger(__name__)

# So that one answer is neither late nor large; the ledger takes 500.
OPERATIONS_MAX = 100
# A call that takes longer than this keeps the others waiting no more: one account may be locked.
SLOW_SECONDS = 0.05
_BATCH = "/api/v1/batch"
_REFUSALS = (InsufficientCreditError, AccountClosedError, LedgerRefusalError)
_ENDPOINTS = {
    "bill": ("POST", "/api/v1/bill"),
    "hold": ("POST", "/api/v1/holds"),
    "amend_hold": ("PATCH", "/api/v1/holds/{}"),
    "release_hold": ("DELETE", "/api/v1/holds/{}"),
}


class LedgerOperation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the ledger is asked to do, as `POST /api/v1/batch` takes it."""

    op: Literal["bill", "hold", "amend_hold", "release_hold"]
    body: dict[str, Any] | None = None
    idempotency_key: str | None = None
    hold_id: str | None = None
    request_id: str | None = None


class _Result(msgspec.Struct):
    status: int
    body: dict[str, Any]


class _Results(msgspec.Struct):
    results: list[_Result]


class _Waiting:
    """An operation, and who waits for it."""

    __slots__ = ("answer", "context", "operation")

    def __init__(self, operation: LedgerOperation) -> None:
        self.operation = operation
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.context = contextvars.copy_context()

    def end(self, outcome: dict[str, Any] | Exception) -> None:
        if self.answer.done():
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
            # Taken for retrieved: who waits may be leaving in this very moment.
            self.answer.exception()
        else:
            self.answer.set_result(outcome)


class _Turn:
    """One call's turn, which ends once: with its answer, or when others have waited long."""

    def __init__(self, free: Callable[[], None]) -> None:
        self._free: Callable[[], None] | None = free

    def end(self) -> None:
        free, self._free = self._free, None
        if free is not None:
            free()


class LedgerQueue:
    """Sends operations to the ledger."""

    def __init__(self, api: CreditsApi) -> None:
        self._api = api
        self._waiting: deque[_Waiting] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._busy = False
        self._pumping = False

    async def run(self, operation: LedgerOperation, *, tries: int = 2) -> dict[str, Any]:
        """Have an operation done, again if its answer was lost, and return the answer.

        Its key makes it safe to repeat; an operation without one may be repeated as it is.

        Raises:
            InsufficientCreditError, AccountClosedError: it can't be paid.
            LedgerRefusalError: refused for good.
            BillingUnavailableError: anything that is not certain.
        """
        while True:
            tries -= 1
            try:
                return await self._run(operation)
            except BillingUnavailableError:
                if not tries:
                    raise
            await asyncio.sleep(credits_api.RETRY_PAUSE_SECONDS)

    async def _run(self, operation: LedgerOperation) -> dict[str, Any]:
        if current_span().recording:
            # A trace goes on in the ledger, which a batch of many could not say.
            return await self._alone(operation)
        waiting = _Waiting(operation)
        self._waiting.append(waiting)
        if not (self._busy or self._pumping):
            # What else comes in this turn of the loop goes with it.
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)
        return await waiting.answer

    def _pump(self) -> None:
        """Send what waits, unless a call is on its way."""
        self._pumping = False
        if self._busy:
            return
        taken: list[_Waiting] = []
        while self._waiting and len(taken) < OPERATIONS_MAX:
            waiting = self._waiting.popleft()
            # Who has left while it waited asked for nothing.
            if not waiting.answer.done():
                taken.append(waiting)
        if not taken:
            return
        self._busy = True
        loop = asyncio.get_running_loop()
        call = loop.create_task(self._send(taken), name="ledger-call", context=taken[0].context)
        self._calls.add(call)
        turn = _Turn(self._free)
        slow = loop.call_later(SLOW_SECONDS, turn.end)

        def done(task: asyncio.Task[None]) -> None:
            self._calls.discard(task)
            slow.cancel()
            turn.end()

        call.add_done_callback(done)

    def _free(self) -> None:
        self._busy = False
        self._pump()

    async def _send(self, taken: list[_Waiting]) -> None:
        outcomes: list[dict[str, Any] | Exception]
        try:
            if len(taken) == 1:
                outcomes = [await self._alone(taken[0].operation)]
            else:
                outcomes = await self._together([waiting.operation for waiting in taken])
        except asyncio.CancelledError:
            for waiting in taken:
                waiting.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            outcomes = [error] * len(taken)
        for waiting, outcome in zip(taken, outcomes, strict=True):
            waiting.end(outcome)

    async def _alone(self, operation: LedgerOperation) -> dict[str, Any]:
        method, path = _ENDPOINTS[operation.op]
        key, hold_id = operation.idempotency_key, operation.hold_id
        return await self._api.call(method, path.format(hold_id), operation.body, key=key, tries=1)

    async def _together(
        self, operations: list[LedgerOperation]
    ) -> list[dict[str, Any] | Exception]:
        body = b'{"operations":%b}' % msgspec.json.encode(operations)
        try:
            answer = msgspec.convert(
                await self._api.call("POST", _BATCH, body, tries=1), type=_Results
            )
        except (*_REFUSALS, msgspec.ValidationError) as error:
            # What refuses the batch says nothing of what is in it.
            _log.error("ledger_batch_refused", error=f"{type(error).__name__}: {error}")
            raise BillingUnavailableError from error
        if len(answer.results) != len(operations):
            _log.error("ledger_batch_incomplete", operations=len(operations))
            raise BillingUnavailableError
        return [
            await self._outcome(operation, result)
            for operation, result in zip(operations, answer.results, strict=True)
        ]

    async def _outcome(
        self, operation: LedgerOperation, result: _Result
    ) -> dict[str, Any] | Exception:
        try:
            try:
                return answer_of(result.status, result.body, path=_ENDPOINTS[operation.op][1])
            except LedgerRefusalError:
                # For good, so that a charge would be given up: it may be the batch's form that
                # this ledger does not know. Its own endpoint has the last word.
                return await self._alone(operation)
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            return error


def operation_of(
    op: Literal["bill", "hold", "amend_hold", "release_hold"],
    body: dict[str, Any] | None = None,
    *,
    key: str | None = None,
    hold_id: str | None = None,
) -> LedgerOperation:
    """Return an operation of the request that is being served."""
    return LedgerOperation(op, body, key, hold_id, current_request_id() or None)
