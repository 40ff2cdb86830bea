"""Send a completion as server-sent events, and never lose it when the client leaves."""

import asyncio
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ai_proxy_service.api.errors import error_event
from ai_proxy_service.api.tracking import Tracker
from ai_proxy_service.core.completion import Completion
from ai_proxy_service.core.errors import InsufficientCreditError
from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.translation.errors import to_service_error
from ai_proxy_service.translation.finish import LENGTH
from ai_proxy_service.translation.stream import DONE, ChatStreamTranslator
from service_kit.errors import ServiceError
from service_kit.logging import get_logger
from service_kit.request_id import current_request_id

_log = get_logger(__name__)

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    # nginx would otherwise collect the events before it passes them on.
    "x-accel-buffering": "no",
}


class EventStream(Response):
    """A streamed answer whose completion has been opened already.

    Starlette's own streaming response cancels the request when the client leaves; here the
    completion is handed over instead, to be read to its end and charged.
    """

    def __init__(
        self,
        completion: Completion,
        translator: ChatStreamTranslator,
        tracker: Tracker,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(None, headers={**STREAM_HEADERS, **headers})
        del self.headers["content-length"]
        self._completion = completion
        self._translator = translator
        self._tracker = tracker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream (ASGI)."""
        with self._tracker.stream():
            try:
                await self._send_while_connected(receive, send)
            finally:
                # Nothing happens here if it was settled; otherwise it goes on without the client.
                self._completion.abandon()

    async def _send_while_connected(self, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_disconnected(receive))
        try:
            async with asyncio.timeout(None) as sending:

                def stop(task: asyncio.Task[None]) -> None:
                    if not task.cancelled():
                        sending.reschedule(asyncio.get_running_loop().time())

                gone.add_done_callback(stop)
                await self._send_all(send)
                gone.remove_done_callback(stop)
        except TimeoutError:
            _log.info("client_left", completion_id=self._completion.order.completion_id)
            self._tracker.finish(successful=False)
        finally:
            gone.cancel()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        completion, translator = self._completion, self._translator
        try:
            while chunks := await completion.receive():
                # What arrived together is sent together.
                events = b"".join([translator.chunk(chunk) for chunk in chunks])
                if events:
                    await send({"type": "http.response.body", "body": events, "more_body": True})
            reason = LENGTH if completion.cut_off else translator.answer.finish()
        except GeminiError as error:
            await completion.settle(estimated=True)
            await self._end(send, error_event(to_service_error(error), current_request_id()))
        except ServiceError as error:
            await completion.settle()
            await self._end(send, error_event(error, current_request_id()))
        else:
            await completion.settle()
            await self._end(send, self._ending(reason), successful=True)

    def _ending(self, reason: str) -> bytes:
        completion, translator = self._completion, self._translator
        events = translator.finish(reason) + translator.usage(completion.usage)
        if completion.cut_off or (completion.lowered_max_tokens and reason == LENGTH):
            events += error_event(credit_used_up(), current_request_id())
        return events

    async def _end(self, send: Send, events: bytes, *, successful: bool = False) -> None:
        self._tracker.finish(successful=successful)
        await send({"type": "http.response.body", "body": events + DONE, "more_body": False})


def credit_used_up() -> InsufficientCreditError:
    """Return the error that ends an answer for which the credit did not suffice."""
    return InsufficientCreditError(
        "Your credit was used up before the answer was complete. Please top up your account."
    )


async def _disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
