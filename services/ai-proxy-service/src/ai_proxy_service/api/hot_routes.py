"""The proxy's busiest calls, which go past the router."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from ai_proxy_service.api import chat, embeddings, text_completions
from ai_proxy_service.api.scopes import ensure_scope
from ai_proxy_service.core.issued_keys import Scope
from service_kit.hot_routes import HotRoute, HotTable

_Endpoint = Callable[[Request], Awaitable[Response]]


def _scoped(endpoint: _Endpoint, scope: Scope) -> _Endpoint:
    async def serve(request: Request) -> Response:
        ensure_scope(request, scope)
        return await endpoint(request)

    return serve


_CALLS: tuple[tuple[str, _Endpoint, Scope], ...] = (
    ("/chat/completions", chat.create_chat_completion, "chat"),
    ("/completions", text_completions.create_completion, "chat"),
    ("/embeddings", embeddings.create_embeddings, "embeddings"),
)
# With and without the version, as the router has them.
EXACT: HotTable = {
    ("POST", f"{prefix}{path}"): HotRoute(f"{prefix}{path}", _scoped(endpoint, scope))
    for path, endpoint, scope in _CALLS
    for prefix in ("/v1", "")
}
