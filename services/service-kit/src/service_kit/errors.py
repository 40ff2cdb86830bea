"""Expected failures, and how they reach a client in its surface's own form.

    ServiceError                  status, stable code, message safe to show
    ├── InvalidBodyError          the request's body, or one field of it, is wrong (body.py)
    ├── BodyTooLargeError         more bytes than the service accepts (body_limit.py)
    ├── InvalidApiKeyError        no key, or one that is not accepted (auth.py)
    ├── ForbiddenError            the key is good, but not for this (auth.py)
    └── RateLimitExceededError    more requests than the limit allows (rate_limit.py)

Each service adds its own subclasses and one `ErrorForm`.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service_kit.logging import get_logger
from service_kit.request_id import current_request_id

_log = get_logger(__name__)
_STATUSES = frozenset(HTTPStatus)


class ServiceError(Exception):
    """A failure that the client may be told about.

    Attributes:
        status: HTTP status.
        code: stable, machine-readable name.
        message: text for people; must not show anything internal.
        field: path of the offending field, for example ``messages[0].content``.
        headers: headers of the answer, for example ``Retry-After``.
        extra: further members for the error form, for example ``available``.
    """

    status: int = 500
    code: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = self.status if status is None else status
        self.code = self.code if code is None else code
        self.field = field
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


class ErrorForm(Protocol):
    """Writes an error the way one surface's clients read it."""

    content_type: str

    def render(self, error: ServiceError, request_id: str) -> bytes:
        """Return the body of the error response."""


def error_response(error: ServiceError, form: ErrorForm) -> Response:
    """Make the HTTP response that tells a client of the error."""
    return Response(
        form.render(error, current_request_id()),
        status_code=error.status,
        headers={"content-type": form.content_type, **error.headers},
    )


def internal_error() -> ServiceError:
    """Return the error for whatever was not expected: nothing internal is shown."""
    return ServiceError("The server had an error while processing your request.")


def http_error(status: int, method: str, path: str) -> ServiceError:
    """Return the error for a status that the routing itself produced."""
    if status == HTTPStatus.NOT_FOUND:
        return ServiceError(f"Invalid URL ({method} {path})", status=status, code="not_found")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return ServiceError(
            f"Method {method} is not allowed for {path}", status=status, code="method_not_allowed"
        )
    phrase = HTTPStatus(status).phrase if status in _STATUSES else "The request failed."
    return ServiceError(phrase, status=status, code="http_error")


def install_error_handlers(app: Starlette, form: ErrorForm) -> None:
    """Give every expected failure of the app's routes the surface's own form."""

    async def on_service_error(_request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        return error_response(error, form)

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        shown = http_error(error.status_code, request.method, request.url.path)
        shown.headers.update(error.headers or {})
        return error_response(shown, form)

    app.add_exception_handler(ServiceError, on_service_error)
    app.add_exception_handler(HTTPException, on_http_exception)


class UnhandledErrorMiddleware:
    """Turns an unexpected exception into a generic 500; the log gets the exception.

    Starlette's own handler sits outside all other middleware, where the request id and
    the CORS headers are no longer added; this one goes inside them.
    """

    def __init__(self, app: ASGIApp, *, form: ErrorForm) -> None:
        self.app = app
        self.form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except ClientDisconnect:
            # It left while its body was being read: an everyday event, with nobody to answer.
            _log.info("client_disconnected", path=scope["path"], method=scope["method"])
        except Exception:
            _log.exception("unhandled_error", path=scope["path"], method=scope["method"])
            if started:
                raise
            await error_response(internal_error(), self.form)(scope, receive, send)
