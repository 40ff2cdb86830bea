"""The span of each request, inside the trace that its client names."""

from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from service_kit.spans import Span, Value
from service_kit.tracing import TRACEPARENT, TRACESTATE, is_tracing, server_span

# Asked every few seconds, and nothing to follow.
UNTRACED_PATHS = frozenset({"/health", "/ready", "/metrics"})
_TRACEPARENT = TRACEPARENT.encode()
_TRACESTATE = TRACESTATE.encode()
_SERVER_ERROR = 500


class TraceMiddleware:
    """Begins the span that everything that is done for a request belongs to.

    It is described at its end by `describe`, once the route and the status are known.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        traceparent = tracestate = b""
        for name, value in scope["headers"]:
            if name == _TRACEPARENT:
                # Two of them together are none: neither is to be believed more.
                traceparent += value
            elif name == _TRACESTATE:
                tracestate = b",".join((tracestate, value)) if tracestate else value
        if not (traceparent or is_tracing()) or scope["path"] in UNTRACED_PATHS:
            await self.app(scope, receive, send)
            return
        with server_span(
            "HTTP",
            traceparent.decode("latin-1"),
            tracestate.decode("latin-1"),
            {"url.scheme": scope["scheme"]},
        ):
            await self.app(scope, receive, send)


def describe(
    span: Span, method: str, route: str | None, status: int, facts: Mapping[str, Any]
) -> None:
    """Say of a request's span what it was, as OpenTelemetry's HTTP conventions name it.

    Args:
        span: the request's.
        method: one of those that HTTP knows, or another word for all the rest.
        route: the template of its path; the path itself may have names in it.
        status: of its answer.
        facts: what is known of it besides.
    """
    attributes: dict[str, Value] = {
        "http.request.method": method,
        "http.response.status_code": status,
    }
    if route is not None:
        attributes["http.route"] = route
    for name, value in facts.items():
        if isinstance(value, str | bool | int | float):
            attributes[f"gateway.{name}"] = value
    span.set(attributes)
    span.rename(method if route is None else f"{method} {route}")
    if status >= _SERVER_ERROR:
        span.fail(str(status))
