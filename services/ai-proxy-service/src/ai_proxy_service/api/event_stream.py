"""Send a completion as server-sent events, and never lose it when the client leaves."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ai_proxy_service.api.errors import error_event
from ai_proxy_service.api.tracking import Tracker
from ai_proxy_service.core.completion import Completion
from ai_proxy_service.core.errors import InsufficientCreditError
from ai_proxy_service.core.gemini import GeminiError, GenerateContentResponse
from ai_proxy_service.core.relay import Relay
from ai_proxy_service.core.usage import TokenUsage
from ai_proxy_service.translation.answer import AnswerState
from ai_proxy_service.translation.errors import to_service_error
from ai_proxy_service.translation.finish import LENGTH
from ai_proxy_service.translation.stream import DONE
from service_kit.drain import Drain, ShuttingDownError
from service_kit.drain_middleware import drain_of
from service_kit.errors import ServiceError, internal_error
from service_kit.logging import get_logger
from service_kit.request_id import current_request_id
from service_kit.spans import current_span

_log = get_logger(__name__)

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    # nginx would otherwise collect the events before it passes them on.
    "x-accel-buffering": "no",
}
# A comment keeps proxies on the way from closing a connection on which Gemini is silent.
PING = b": ping\n\n"
PING_SECONDS = 12.0
# Who reads nothing for so long is taken for gone.
SEND_SECONDS_MAX = 60.0
# How far the reading may run ahead of the client.
UNSENT_BYTES_MAX = 1 << 20


class EventSender:
    """Sends what is put into it, at its own pace; what has gathered meanwhile goes together.

    So the completion is read and metered although its client may be slow.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._unsent = bytearray()
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._closed = False

    async def put(self, events: bytes) -> None:
        """Queue events; waits while too many are unsent."""
        while len(self._unsent) > UNSENT_BYTES_MAX:
            self._taken.clear()
            await self._taken.wait()
        self._unsent += events
        self._changed.set()

    def end(self, events: bytes) -> None:
        """Queue the last events, however many are unsent, if it has not ended already."""
        if not self._closed:
            self._unsent += events
            self.close()

    def close(self) -> None:
        """End the response once everything is sent."""
        self._closed = True
        self._changed.set()

    async def run(self) -> None:
        """Send until it is closed.

        Raises:
            TimeoutError: the client has stopped reading.
        """
        while True:
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                self._unsent += PING
            self._changed.clear()
            events, self._unsent = bytes(self._unsent), bytearray()
            self._taken.set()
            last = self._closed
            async with asyncio.timeout(SEND_SECONDS_MAX):
                await self._send(
                    {"type": "http.response.body", "body": events, "more_body": not last}
                )
            if last:
                return


class Translator(Protocol):
    """Turns Gemini's chunks into the events of one surface."""

    answer: AnswerState

    def chunk(self, received: GenerateContentResponse) -> bytes:
        """Return the events for one chunk."""

    def finish(self) -> bytes:
        """Return what was held back, once no more chunks come."""

    def end(self, reasons: dict[int, str], usage: TokenUsage | None, cost_nanos: int) -> bytes:
        """Return the events that end the choices and tell the usage and its cost."""


class EventStream(Response):
    """A streamed answer whose completion has been opened, or is still being opened.

    Starlette's own streaming response cancels the request when the client leaves; here the
    completion is handed over instead, to be read to its end and charged.

    Args:
        opening: the completion on its way.
        relay: where it goes if the client leaves.
        translator: makes the events.
        choices: how many answers were asked for.
        remember: keeps what belongs to the answer's calls.
        tracker: counts it.
        headers: besides those of every stream.

    Attributes:
        unsettled: a charge for it may still be made.
    """

    def __init__(
        self,
        opening: asyncio.Task[Completion],
        *,
        relay: Relay,
        translator: Translator,
        choices: int,
        remember: Callable[[AnswerState], Awaitable[None]],
        tracker: Tracker,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(None, headers={**STREAM_HEADERS, **headers})
        del self.headers["content-length"]
        self._opening = opening
        self._relay = relay
        self._translator = translator
        self._choices = choices
        self._remember = remember
        self._tracker = tracker
        self.unsettled = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream (ASGI)."""
        with self._tracker.stream():
            try:
                await send(
                    {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                )
                await serve_events(self._read, send, receive, drain_of(scope))
            finally:
                # Nothing happens here if it was settled; otherwise it goes on without the client.
                self._relay.leave(self._opening)

    async def _read(self, sender: EventSender) -> None:
        """Translate the completion, settle it, and end the response."""
        try:
            ending = await self._translate(sender)
        except GeminiError as error:
            ending = _failed(to_service_error(error))
        except ServiceError as error:
            ending = _failed(error)
        except Exception:  # noqa: BLE001 - whatever it is, the client is told; `leave` settles
            _log.exception("stream_failed")
            ending = _failed(internal_error())
        await sender.put(ending + DONE)
        sender.close()

    async def _translate(self, sender: EventSender) -> bytes:
        """Send the answer as it comes, and return how it ends."""
        if not self._opening.done():
            # Shows the client, and whatever is in between, that the answer is on its way.
            await sender.put(PING)
        try:
            completion = await asyncio.shield(self._opening)
        except (GeminiError, ServiceError):
            self.unsettled = False
            raise
        except asyncio.CancelledError:
            if not self._opening.cancelled():
                raise
            raise ShuttingDownError from None
        self._tracker.first_chunk()
        translator = self._translator
        try:
            while chunks := await completion.receive():
                # What arrived together is sent together.
                events = b"".join([translator.chunk(chunk) for chunk in chunks])
                if events:
                    await sender.put(events)
        except GeminiError:
            await completion.settle(estimated=True)
            self.unsettled = False
            raise
        await sender.put(translator.finish())
        try:
            reasons = translator.answer.reasons(self._choices, cut_off=completion.cut_off)
            await self._remember(translator.answer)
        finally:
            settled = await completion.settle()
            self.unsettled = False
        self._tracker.finish(successful=True)
        events = translator.end(reasons, completion.usage, settled.charged_nanos)
        if completion.ran_out(reached_limit=LENGTH in reasons.values()):
            events += error_event(credit_used_up(), current_request_id())
        return events


def _failed(error: ServiceError) -> bytes:
    """Return the event that tells of an error after the status has been sent."""
    current_span().fail(error.code)
    return error_event(error, current_request_id())


def credit_used_up() -> InsufficientCreditError:
    """Return the error that ends an answer for which the credit did not suffice."""
    return InsufficientCreditError(
        "Your credit was used up before the answer was complete. Please top up your account."
    )


async def serve_events(
    read: Callable[[EventSender], Awaitable[None]], send: Send, receive: Receive, drain: Drain
) -> None:
    """Read and send side by side, until all is sent, the client is gone or the process ends.

    Args:
        read: puts the events, and closes the sender.
        send: the response's (ASGI).
        receive: the response's (ASGI).
        drain: tells when the process can wait no longer.
    """
    sender = EventSender(send)
    reading = asyncio.ensure_future(read(sender))

    def stop() -> None:
        reading.cancel()
        sender.end(_failed(ShuttingDownError()) + DONE)

    sending = asyncio.create_task(sender.run())
    gone = asyncio.create_task(disconnected(receive))
    tasks = (reading, sending, gone)
    try:
        with drain.stopping(stop):
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if sending.cancelled() or sending.exception() is not None:
        _log.info("client_left", request_id=current_request_id())


async def disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
