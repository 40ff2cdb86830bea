"""Metrics on a port of their own, which the public one does not show.

Both ports are served by the same app: the socket's own address, which no client can choose,
tells which of them a request came to.
"""

from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from service_kit.errors import ErrorForm, error_response, http_error

_METRICS = frozenset({"/metrics", "/api/v1/metrics"})
# A scraper's network may be another than that of the load balancer, which asks for health.
_SERVED = _METRICS | {"/health", "/ready"}


class MetricsPortMiddleware:
    """Serves metrics on their port only, and nothing else there but health.

    Args:
        app: the app inside.
        port: the metrics' port.
        form: how a refusal is written.
    """

    def __init__(self, app: ASGIApp, *, port: int, form: ErrorForm) -> None:
        self.app = app
        self.port = port
        self.form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "http" and not self._belongs(scope):
            refusal = http_error(HTTPStatus.NOT_FOUND, scope["method"], scope["path"])
            await error_response(refusal, self.form)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _belongs(self, scope: Scope) -> bool:
        server = scope.get("server")
        if server is not None and server[1] == self.port:
            return scope["path"] in _SERVED
        return scope["path"] not in _METRICS
