"""The busiest calls, found by one look-up: a router's search costs more than their work.

The router has the same endpoints; it makes the OpenAPI document and serves all that is not
exactly one of these calls (see docs/decisions/0012-hot-routes-are-plain.md).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service_kit.errors import ErrorForm, ServiceError, error_response

Endpoint = Callable[..., Awaitable[Response]]


class HotRoute(NamedTuple):
    """A call that is not searched for.

    Attributes:
        path: its template, as the metrics name it.
        endpoint: what the router would call as well.
    """

    path: str
    endpoint: Endpoint


# By method and path.
HotTable = Mapping[tuple[str, str], HotRoute]


class HotRoutes:
    """The innermost layer (ASGI): serves hot calls itself and passes on all others.

    Args:
        app: serves the others.
        form: of errors.
        exact: calls whose path has no parameter.
        identified: calls with an identifier after the path, which the endpoint is given.
    """

    def __init__(
        self, app: ASGIApp, *, form: ErrorForm, exact: HotTable, identified: HotTable
    ) -> None:
        self.app = app
        self.form = form
        self.exact = exact
        self.identified = identified

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        arguments: tuple[str, ...] = ()
        route = self.exact.get((method, path))
        if route is None and self.identified:
            head, _, identifier = path.rpartition("/")
            route = self.identified.get((method, head)) if identifier else None
            arguments = (identifier,)
        if route is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = route
        try:
            response = await route.endpoint(Request(scope, receive, send), *arguments)
        except ServiceError as error:
            response = error_response(error, self.form)
        await response(scope, receive, send)
