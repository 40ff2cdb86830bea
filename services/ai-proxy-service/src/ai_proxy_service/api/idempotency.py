"""`Idempotency-Key`: a repeated request gets the answer of the first, and is charged once."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ai_proxy_service.api.errors import OpenAIErrorForm, error_event
from ai_proxy_service.api.event_stream import (
    PING,
    EventSender,
    EventStream,
    disconnected,
    serve_events,
)
from ai_proxy_service.api.gateway import (
    gateway_of,
    key_use_of,
    principal_of,
    with_recording,
)
from ai_proxy_service.api.serving import client_gone
from ai_proxy_service.core.answering import FoundAnswer
from ai_proxy_service.core.errors import IDEMPOTENCY_KEY, InvalidRequestError
from ai_proxy_service.core.owned_names import owned_name
from ai_proxy_service.core.recording import AnswerHead, Recording
from ai_proxy_service.translation.stream import DONE
from service_kit.drain_middleware import drain_of
from service_kit.errors import ServiceError, error_response, internal_error
from service_kit.logging import get_logger
from service_kit.request_id import current_request_id

_log = get_logger(__name__)

KEY_CHARACTERS_MAX = 255
REPLAYED_HEADER = "idempotency-replayed"
_FINGERPRINT_BYTES = 32
# What was true when the first request was answered, and need not be now.
_NOT_REPEATED = ("x-credits-available",)

Answer = Callable[[Request], Awaitable[Response]]


async def answer_once(request: Request, answer: Answer, surface: str) -> Response:
    """Answer a request; one with a key that was used before gets the answer that it got.

    Args:
        request: the client's.
        answer: makes the answer.
        surface: what the request is for, whichever path leads there.

    Raises:
        InvalidRequestError: the key is not one, or belongs to another request.
        AnswerNotKeptError: the answer was charged, but can't be shown again.
        AnswersUnavailableError: it could not be found out whether there is one.
        ServiceError: whatever `answer` raised.
    """
    keys = request.headers.getlist(IDEMPOTENCY_KEY)
    if not keys:
        return await answer(request)
    raw = await request.body()
    use = key_use_of(request)

    async def run(recording: Recording) -> bool:
        # It goes on without its client, and counts among the key's requests until it ends.
        use.join()
        try:
            return await _record(request.scope, raw, answer, recording)
        finally:
            use.leave()

    name = owned_name(principal_of(request).name, _checked(keys))
    finding = asyncio.create_task(
        gateway_of(request).answers.find(name, _fingerprint(surface, raw), run)
    )
    # A run may be about to begin when the client leaves.
    use.join()
    finding.add_done_callback(lambda _: use.leave())
    found = await _unless_gone(request, finding)
    return client_gone() if found is None else RecordedResponse(found)


async def _unless_gone(request: Request, finding: asyncio.Task[FoundAnswer]) -> FoundAnswer | None:
    """Wait for an answer to begin; None if the client has left before, which stops no answer."""
    gone = asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait({finding, gone}, return_when=asyncio.FIRST_COMPLETED)
        return finding.result() if finding.done() else None
    finally:
        finding.cancel()
        gone.cancel()


def _checked(keys: list[str]) -> str:
    key = keys[0]
    printable = key.isascii() and key.isprintable()
    if len(keys) > 1 or not 0 < len(key) <= KEY_CHARACTERS_MAX or not printable:
        raise InvalidRequestError(
            f"Invalid {IDEMPOTENCY_KEY}: it is one header of 1 to {KEY_CHARACTERS_MAX} printable "
            "ASCII characters.",
            field=IDEMPOTENCY_KEY,
        )
    return key


def _fingerprint(surface: str, raw: bytes) -> bytes:
    """Return what two requests have in common if they ask for the same.

    The order of members and the white space of JSON don't matter.
    """
    try:
        body = msgspec.json.encode(msgspec.json.decode(raw), order="sorted")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        body = raw
    return hashlib.blake2b(surface.encode() + b"\0" + body, digest_size=_FINGERPRINT_BYTES).digest()


async def _record(scope: Scope, raw: bytes, answer: Answer, recording: Recording) -> bool:
    """Make an answer into a recording; its client is one that never leaves.

    Returns:
        Whether all that it may cost has been charged.

    Raises:
        ServiceError: it was refused or failed, and nothing was charged.
    """
    body: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]

    async def receive() -> Message:
        while not body:
            await recording.change()
        return body.pop()

    own_scope = with_recording(scope, recording)
    try:
        response = await answer(Request(own_scope, receive))
    except ServiceError as error:
        if not recording.charged:
            raise
        # It was paid for, so a repeat has to be told the same instead of being charged again.
        response = error_response(error, OpenAIErrorForm())
    await response(own_scope, receive, _recorder(recording))
    return not (isinstance(response, EventStream) and response.unsettled)


def _recorder(recording: Recording) -> Send:
    """Return the `send` (ASGI) of a recording."""

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = Headers(raw=message["headers"])
            streamed = headers["content-type"].startswith("text/event-stream")
            recording.begin(AnswerHead(message["status"], tuple(headers.items()), streamed))
            return
        # Readers are pinged while they wait, each for itself.
        await recording.put(message.get("body", b"").removeprefix(PING))
        if not message.get("more_body", False):
            recording.complete = True

    return send


class RecordedResponse(Response):
    """An answer that is read from its recording, by the first client and by all others alike."""

    def __init__(self, found: FoundAnswer) -> None:
        head = found.reader.head
        super().__init__(None, status_code=head.status)
        headers = MutableHeaders(Headers(dict(head.headers)))
        if found.repeated:
            headers[REPLAYED_HEADER] = "true"
            for name in _NOT_REPEATED:
                del headers[name]
        self.raw_headers = headers.raw
        self._reader = found.reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer (ASGI).

        Raises:
            ServiceError: a whole answer can't be read; nothing has been sent.
        """
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        try:
            if self._reader.head.streamed:
                await send(start)
                await serve_events(self._read, send, receive, drain_of(scope))
            else:
                body = b""
                while pieces := await self._reader.receive():
                    body += b"".join(pieces)
                await send(start)
                await send({"type": "http.response.body", "body": body})
        finally:
            self._reader.close()

    async def _read(self, sender: EventSender) -> None:
        """Pass on what has come, until its end."""
        try:
            while pieces := await self._reader.receive():
                await sender.put(b"".join(pieces))
        except ServiceError as error:
            await sender.put(error_event(error, current_request_id()) + DONE)
        except Exception:  # noqa: BLE001 - whatever it is, the client is told
            _log.exception("stream_failed")
            await sender.put(error_event(internal_error(), current_request_id()) + DONE)
        sender.close()
