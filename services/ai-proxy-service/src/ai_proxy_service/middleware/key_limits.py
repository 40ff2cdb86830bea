"""How much one issued key may ask at a time."""

from collections.abc import Collection, Iterator, Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ai_proxy_service.core.issued_keys import IssuedKey
from ai_proxy_service.core.key_limits import KeyLimitReachedError, LimitName, Standing
from ai_proxy_service.core.key_refusals import KeyRefusals, RefusedUse
from ai_proxy_service.services.key_limiter import KeyLimiter
from service_kit.errors import ErrorForm, error_response
from service_kit.rate_limit import limit_headers
from service_kit.request_id import current_request_id

_REASONS: Mapping[LimitName, RefusedUse] = {
    "requests": "rpm",
    "tokens": "tpm",
    "concurrent": "max_concurrent",
}


class KeyLimitsMiddleware:
    """Refuses what is over a key's limits, and tells its holder where he stands.

    The request's use is left in ``scope["state"]["key_use"]``, for what goes on after its client
    has gone, and to count its tokens.

    Args:
        app: the app inside.
        limiter: what counts.
        refusals: where refusals are noted for the keys' records.
        paths: what the limits are on.
        form: how a refusal is written.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limiter: KeyLimiter,
        refusals: KeyRefusals,
        paths: Collection[str],
        form: ErrorForm,
    ) -> None:
        self.app = app
        self.limiter = limiter
        self.refusals = refusals
        self.paths = frozenset(paths)
        self.form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        key = scope.get("state", {}).get("principal")
        limited = isinstance(key, IssuedKey) and key.limited and scope["path"] in self.paths
        if not limited:
            await self.app(scope, receive, send)
            return
        use = await self.limiter.enter(key)
        told = dict(_headers(use.standing))

        async def add_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(told)
            await send(message)

        refused_by = use.standing.refused_by
        if refused_by is not None:
            self.refusals.note(key.name, _REASONS[refused_by], current_request_id())
            refusal = error_response(KeyLimitReachedError(use.key, use.standing), self.form)
            await refusal(scope, receive, add_headers)
            return
        scope["state"]["key_use"] = use
        try:
            await self.app(scope, receive, add_headers)
        finally:
            use.leave()


def _headers(standing: Standing) -> Iterator[tuple[str, str]]:
    if standing.requests is not None:
        yield from limit_headers("requests", *standing.requests).items()
    if standing.tokens is not None:
        yield from limit_headers("tokens", *standing.tokens).items()
