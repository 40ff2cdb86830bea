"""Bearer authentication as pure ASGI; which keys count is the service's policy."""

from collections.abc import Awaitable, Callable, Collection, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from service_kit.errors import ErrorForm, ServiceError, error_response
from service_kit.keys import Principal

# Raises a `ServiceError` where it can't be found out whether the key is accepted.
Authenticate = Callable[[str], Awaitable[Principal | None]]

_BEARER = b"bearer "
# Who asks where no key is asked for: whatever needs a right has to refuse him.
NOBODY = Principal("anonymous")


class InvalidApiKeyError(ServiceError):
    """No key, or one that is not accepted; the text is the same for both."""

    status = 401
    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__(
            "Incorrect or missing API key. Send it as 'Authorization: Bearer <key>'.",
            headers={"www-authenticate": "Bearer"},
        )


class ForbiddenError(ServiceError):
    """The key is good, but not for this."""

    status = 403
    code = "permission_denied"


def presented_key(scope: Scope, key_headers: Sequence[bytes] = ()) -> str:
    """Return the key that a request carries, or an empty string.

    Args:
        scope: the ASGI scope.
        key_headers: further header names, lower case, that may carry the bare key.
    """
    fallback = ""
    for name, value in scope["headers"]:
        if name == b"authorization":
            if value[: len(_BEARER)].lower() == _BEARER:
                return str(value[len(_BEARER) :].strip(), "latin-1")
        elif name in key_headers:
            fallback = str(value.strip(), "latin-1")
    return fallback


class BearerAuthMiddleware:
    """Lets a request through only with an accepted key, except on exact public paths.

    The principal is left in ``scope["state"]["principal"]``; on public paths it is `NOBODY`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticate: Authenticate,
        exempt_paths: Collection[str],
        form: ErrorForm,
        key_headers: Sequence[bytes] = (),
    ) -> None:
        self.app = app
        self.authenticate = authenticate
        self.exempt_paths = frozenset(exempt_paths)
        self.form = form
        self.key_headers = tuple(key_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        # Anything but the app's own start and stop needs a key, a websocket too.
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        principal: Principal | None = NOBODY
        if not self._is_exempt(scope):
            try:
                principal = await self.authenticate(presented_key(scope, self.key_headers))
                if principal is None:
                    raise InvalidApiKeyError
            except ServiceError as error:
                await error_response(error, self.form)(scope, receive, send)
                return
        scope.setdefault("state", {})["principal"] = principal
        await self.app(scope, receive, send)

    def _is_exempt(self, scope: Scope) -> bool:
        path = scope["path"]
        # Only the path as it was written counts: an encoded form of it is another path.
        raw_path = scope.get("raw_path") or path.encode()
        return path in self.exempt_paths and raw_path.partition(b"?")[0] == path.encode()
