"""The id that follows a request through both services' answers and log lines."""

import random
import re
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-request-id"
_HEADER_BYTES = HEADER.encode()
_ACCEPTED = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_ID_BITS = 96
# Ids must differ and are no secret: asking the system for each would cost a call of its own.
_random = random.Random()  # noqa: S311 - see above
_current: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """Return the id of the request that is being served, or an empty string outside one."""
    return _current.get()


def new_request_id() -> str:
    """Make an id in OpenAI's style: ``req_`` and 24 hexadecimal digits."""
    return f"req_{_random.getrandbits(_ID_BITS):024x}"


def _requested_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == _HEADER_BYTES:
            # A client's own id goes into logs and headers: only harmless characters may.
            return value.decode("ascii") if _ACCEPTED.fullmatch(value) else ""
    return ""


class RequestIdMiddleware:
    """Takes or makes the request's id, for every log line and answer that is made for it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _requested_id(scope) or new_request_id()
        header = (_HEADER_BYTES, request_id.encode())

        async def add_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = (pair for pair in message["headers"] if pair[0] != _HEADER_BYTES)
                message["headers"] = [*others, header]
            await send(message)

        token = _current.set(request_id)
        try:
            await self.app(scope, receive, add_header)
        finally:
            _current.reset(token)
