"""The id that follows a request through both services' answers and log lines."""

import re
import secrets
from contextvars import ContextVar

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-request-id"
_HEADER_BYTES = HEADER.encode()
_ACCEPTED = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_current: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """Return the id of the request that is being served, or an empty string outside one."""
    return _current.get()


def new_request_id() -> str:
    """Make an id in OpenAI's style: ``req_`` and 24 hexadecimal digits."""
    return f"req_{secrets.token_hex(12)}"


def _requested_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == _HEADER_BYTES:
            # A client's own id goes into logs and headers: only harmless characters may.
            return value.decode("ascii") if _ACCEPTED.fullmatch(value) else ""
    return ""


class RequestIdMiddleware:
    """Takes or makes the request's id, binds it to the log, and returns it on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _requested_id(scope) or new_request_id()

        async def add_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        token = _current.set(request_id)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self.app(scope, receive, add_header)
        finally:
            structlog.contextvars.unbind_contextvars("request_id")
            _current.reset(token)
