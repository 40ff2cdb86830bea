"""What a key must be allowed to do to reach a route."""

from typing import Any

from fastapi import Depends
from starlette.requests import Request

from ai_proxy_service.api.gateway import issued_key_of, note_refusal
from ai_proxy_service.core.errors import MissingScopeError
from ai_proxy_service.core.issued_keys import Scope


def ensure_scope(request: Request, scope: Scope) -> None:
    """Refuse a request whose key may not do this.

    Raises:
        MissingScopeError: it may not.
    """
    issued = issued_key_of(request)
    if issued is not None and not issued.permits(scope):
        note_refusal(request, issued, "missing_scope")
        raise MissingScopeError(scope)


def needs(scope: Scope) -> Any:
    """Return the dependency of routes that an issued key may use with a scope only.

    A configured key is the operator's own, and may use all of them.
    """

    async def check(request: Request) -> None:
        ensure_scope(request, scope)

    return Depends(check)
