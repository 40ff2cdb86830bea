"""The busiest calls, found by one look-up: the router's search costs more than their work.

The router has the same endpoints; it makes the OpenAPI document and serves all that is not
exactly one of these calls (see docs/decisions/0012-hot-routes-are-plain.md).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from credits_service.api import bill, holds
from credits_service.api.routes import PREFIX
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


_HOLD = f"{PREFIX}/holds/{{hold_id}}"
_EXACT: Mapping[tuple[str, str], HotRoute] = {
    ("POST", f"{PREFIX}/bill"): HotRoute(f"{PREFIX}/bill", bill.bill),
    ("POST", f"{PREFIX}/holds"): HotRoute(f"{PREFIX}/holds", holds.place),
}
# With an identifier after the path.
_IDENTIFIED: Mapping[tuple[str, str], HotRoute] = {
    ("PATCH", f"{PREFIX}/holds"): HotRoute(_HOLD, holds.amend),
    ("DELETE", f"{PREFIX}/holds"): HotRoute(_HOLD, holds.release),
}


class HotRoutes:
    """The innermost layer (ASGI): serves hot calls itself and passes on all others."""

    def __init__(self, app: ASGIApp, *, form: ErrorForm) -> None:
        self.app = app
        self.form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        arguments: tuple[str, ...] = ()
        route = _EXACT.get((method, path))
        if route is None:
            head, _, identifier = path.rpartition("/")
            route = _IDENTIFIED.get((method, head)) if identifier else None
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
