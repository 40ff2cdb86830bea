"""Which keys count, and what each may do."""

from collections.abc import Sequence
from typing import Final

from starlette.requests import Request

from service_kit.auth import NOBODY, Authenticate, ForbiddenError, InvalidApiKeyError
from service_kit.keys import KeyRing, NamedKey, Principal

BILL: Final = "bill"
READ: Final = "read"
ADMIN: Final = "admin"

_SERVICE_SCOPES = frozenset({BILL, READ})
_ADMIN_SCOPES = _SERVICE_SCOPES | {ADMIN}
# Who calls while authentication is switched off.
_ANYBODY = Principal("anonymous", _ADMIN_SCOPES)


def authenticate_with(service: Sequence[NamedKey], admin: Sequence[NamedKey]) -> Authenticate:
    """Return the check of a presented key against the configured ones."""
    ring = KeyRing(
        [(key, _SERVICE_SCOPES) for key in service] + [(key, _ADMIN_SCOPES) for key in admin]
    )

    async def authenticate(presented: str) -> Principal | None:
        return ring.find(presented)

    return authenticate


def authorized(request: Request, scope: str) -> Principal:
    """Return who is calling.

    Raises:
        ForbiddenError: the caller's key is not for this.
        InvalidApiKeyError: the path needs no key (`AUTH_EXEMPT_PATHS`), but what is asked does.
    """
    principal: Principal = request.scope.get("state", {}).get("principal", _ANYBODY)
    if principal is NOBODY:
        raise InvalidApiKeyError
    if scope not in principal.scopes:
        raise ForbiddenError("This needs an admin key (ADMIN_API_KEYS).")
    return principal
