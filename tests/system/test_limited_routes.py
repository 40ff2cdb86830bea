"""The limit per address covers every route that a service has, and those it will have."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from ai_proxy_service.api.routes import COMPLETION_PATHS
from credits_service.main import create_app as create_credits
from credits_service.settings import CreditsSettings
from support.live_server import live_server
from support.proxy_app import proxy_app
from support.stack import ADMIN_KEY, CLIENT_KEY, SERVICE_KEY, TIMEOUT_SECONDS, Stack
from support.worker_proxies import new_address

FREE_PATHS = {"/health", "/ready"}
PER_MINUTE = 2
# One more than the limit admits.
ASKED = PER_MINUTE + 1


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Return the method and a path of every route, those of routers that it includes as well."""
    found = []
    for route in iter_route_contexts(app.routes):
        # What has no methods is an app of its own, mounted there.
        path = re.sub(r"{[^}]*}", "1", route.path or "") or "/"
        found += [(method, path) for method in sorted(route.methods or {"GET"})]
    return found


def statuses(client: httpx.Client, method: str, path: str, key: str | None = None) -> list[int]:
    """Return the statuses of as many requests from one new address as make one too many."""
    headers = {"x-forwarded-for": new_address()}
    if key:
        headers["authorization"] = f"Bearer {key}"
    # No route can do anything with this body, so that none does anything.
    body = {} if method in {"GET", "HEAD"} else {"content": b"[]"}
    return [
        client.request(method, path, headers=headers, **body).status_code  # type: ignore[arg-type]  # no other
        for _ in range(ASKED)
    ]


@contextmanager
def client_of(app: FastAPI) -> Iterator[httpx.Client]:
    """Serve an app that believes `X-Forwarded-For`, and yield a client of it."""
    with (
        live_server(ProxyHeadersMiddleware(app, "127.0.0.1")) as url,  # type: ignore[arg-type]  # ASGI as uvicorn declares it
        httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS) as client,
    ):
        yield client


@pytest.fixture
def proxy(stack: Stack, tmp_path: Path) -> FastAPI:
    """The proxy's app, and a route that was added as the next one will be."""
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    app = proxy_app(
        urls, SERVICE_KEY, tmp_path, rate_limit_enabled=True, rate_limit_per_minute=PER_MINUTE
    )
    tomorrow = APIRouter()
    tomorrow.add_api_route("/tomorrow/{name}", lambda name: name)
    app.include_router(tomorrow, prefix="/v1")
    return app


@pytest.fixture
def credits_app(tmp_path: Path) -> FastAPI:
    """The app of the credits service."""
    return create_credits(
        CreditsSettings(
            _env_file=None,
            api_keys=SecretStr(f"proxy:{SERVICE_KEY}"),
            admin_api_keys=SecretStr(f"operator:{ADMIN_KEY}"),
            data_dir=tmp_path,
            rate_limit_per_minute=PER_MINUTE,
        )
    )


def test_every_route_of_the_proxy_is_limited_with_a_key_and_without(proxy: FastAPI) -> None:
    routes = routes_of(proxy)
    with client_of(proxy) as client:
        for key in (CLIENT_KEY, None):
            found = {route: statuses(client, *route, key) for route in routes}

            limited = {route for route in routes if route[1] not in FREE_PATHS}
            assert {route for route in routes if found[route][-1] == 429} == limited
            assert all(429 not in found[route][:PER_MINUTE] for route in routes)
    assert {path for _, path in routes} >= {
        *COMPLETION_PATHS,
        *("/v1/models", "/models", "/v1/models/1", "/v1/tomorrow/1", "/metrics", "/openapi.json"),
    }


def test_what_no_route_answers_is_limited_too(proxy: FastAPI) -> None:
    with client_of(proxy) as client:
        assert statuses(client, "GET", "/v1/nowhere", CLIENT_KEY) == [404, 404, 429]
        assert statuses(client, "PATCH", "/v1/models", CLIENT_KEY) == [405, 405, 429]


def test_every_route_of_the_credits_service_is_limited_for_unknown_callers_only(
    credits_app: FastAPI,
) -> None:
    routes = routes_of(credits_app)
    limited = {route for route in routes if route[1] not in FREE_PATHS}
    with client_of(credits_app) as client:
        for key in (None, "sk-guess-5d1f7a9c3b2e8460"):
            found = {route: statuses(client, *route, key) for route in routes}
            assert {route for route in routes if found[route][-1] == 429} == limited
            assert all(429 not in found[route][:PER_MINUTE] for route in routes)
        known = {route: statuses(client, *route, ADMIN_KEY) for route in routes}
    assert not [route for route in routes if 429 in known[route]]
    assert {path for _, path in routes} >= {
        *("/api/v1/bill", "/api/v1/topup", "/api/v1/keys/verify", "/metrics", "/openapi.json")
    }
