"""A small app with the kit's whole middleware, for the kit's tests: in process or as a command."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import msgspec
from fastapi import APIRouter, Body, FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic_settings import SettingsConfigDict
from starlette.middleware import Middleware

from service_kit.body import decode_body
from service_kit.drain_middleware import DrainMiddleware
from service_kit.errors import ServiceError, install_error_handlers
from service_kit.keys import KeyRing, Principal
from service_kit.logging import get_logger
from service_kit.metrics import HttpMetrics, MetricsRegistry, Readings, metrics_endpoint
from service_kit.middleware import middleware_stack
from service_kit.rate_limit import RateRule
from service_kit.server import prepare_process, serve_service
from service_kit.settings import CommonSettings, load_settings

KEY = "sk-kit-8f1d0c2b7a6e5934"
AUTHORIZED = {"authorization": f"Bearer {KEY}"}
StartApp = Callable[..., httpx.Client]  # the fixture in kit/conftest.py

_log = get_logger(__name__)
_ECHO = msgspec.json.Decoder(dict[str, Any])


class PlainForm:
    """The error form of the kit's tests."""

    content_type = "application/json"

    def render(self, error: ServiceError, request_id: str) -> bytes:
        return msgspec.json.encode(
            {
                "message": error.message,
                "code": error.code,
                "field": error.field,
                "request_id": request_id,
                **error.extra,
            }
        )


class ProcessSettings(CommonSettings):
    """Read from the environment, as a service's are."""

    port: int = 0
    rate_limit_completions_per_minute: int = 30


class KitSettings(ProcessSettings):
    """Only what the test says: no environment, no file."""

    model_config = SettingsConfigDict(env_prefix="KIT_TEST_", env_file=None)


class TeapotError(ServiceError):
    """An expected failure with everything that a ServiceError can carry."""

    status = 418
    code = "teapot"


router = APIRouter(prefix="/v1")


@router.get("/whoami")
async def whoami(request: Request) -> dict[str, str]:
    return {"name": request.state.principal.name}


@router.post("/completions")
async def completions() -> dict[str, bool]:
    return {"ok": True}


@router.get("/items/{item_id}")
async def item(item_id: str) -> dict[str, str]:
    _log.info("item_read", item=item_id)
    return {"item": item_id}


@router.post("/echo")
async def echo(request: Request) -> dict[str, Any]:
    return decode_body(await request.body(), _ECHO)


@router.post("/framework-echo")
async def framework_echo(body: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
    return body


@router.get("/silence")
async def silence() -> None:
    """Answer never."""
    _log.info("silent")
    await asyncio.Event().wait()


@router.get("/stream")
async def stream(request: Request) -> StreamingResponse:
    words: asyncio.Queue[str] = asyncio.Queue()
    request.app.state.words = words

    async def body() -> AsyncIterator[str]:
        yield "first"
        while word := await words.get():
            yield word

    return StreamingResponse(body(), media_type="text/plain")


@router.post("/stream/next")
async def stream_next(request: Request, word: str) -> None:
    await request.app.state.words.put(word)


@router.get("/teapot")
async def teapot() -> None:
    raise TeapotError(
        "I am a teapot.", field="pot", headers={"x-tea": "green"}, extra={"available": 3}
    )


@router.get("/crash")
async def crash() -> None:
    secret = "sk-live-0a1b2c3d4e5f6071"
    raise RuntimeError(f"table accounts refused {secret}")


@router.get("/crash-later")
async def crash_later() -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        yield "first"
        raise RuntimeError("the stream broke")

    return StreamingResponse(body(), media_type="text/plain")


@router.get("/pid")
async def pid() -> dict[str, int]:
    return {"pid": os.getpid()}


async def healthy() -> dict[str, str]:
    return {"status": "ok"}


def kit_app(
    settings: ProcessSettings,
    *,
    key_headers: tuple[bytes, ...] = (),
    limit_known_callers: bool = True,
) -> FastAPI:
    """Make the app as a service makes its own."""
    ring = KeyRing((key, frozenset[str]()) for key in settings.service_keys())
    registry = MetricsRegistry()

    async def authenticate(presented: str) -> Principal | None:
        return ring.find(presented)

    form = PlainForm()
    drain = settings.drain()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with drain.on_signals():
            yield

    app = FastAPI(
        lifespan=lifespan,
        middleware=[
            *middleware_stack(
                settings,
                form=form,
                http_metrics=HttpMetrics(registry.registry),
                authenticate=authenticate if settings.auth_enabled else None,
                rate_rules=(
                    RateRule("requests", settings.rate_limit_per_minute),
                    RateRule(
                        "completions",
                        settings.rate_limit_completions_per_minute,
                        frozenset({"/v1/completions"}),
                    ),
                ),
                key_headers=key_headers,
                limit_known_callers=limit_known_callers,
            ),
            Middleware(DrainMiddleware, drain=drain, form=form),
        ],
    )
    install_error_handlers(app, form)
    app.include_router(router)
    app.add_api_route("/health", healthy)
    app.add_api_route("/ready", healthy)
    app.add_route("/metrics", metrics_endpoint(registry, _json_view))
    return app


def _json_view(readings: Readings) -> Mapping[str, Any]:
    return {
        "total": readings.total("http_server_requests_total"),
        "by_route": readings.by_label("http_server_requests_total", "route"),
        "by_method": readings.by_label("http_server_requests_total", "method"),
        "by_status": readings.by_label("http_server_requests_total", "status"),
        "active": readings.total("http_server_active_requests"),
        "store_errors": readings.total("rate_limit_store_errors_total"),
    }


def create_app() -> FastAPI:
    """Make the app in each process of the command."""
    settings = load_settings(ProcessSettings)
    prepare_process("kit", settings)
    return kit_app(settings)


def main() -> None:
    """Run the app as a command: ``python -m support.kit_app``."""
    settings = load_settings(ProcessSettings)
    prepare_process("kit", settings)
    serve_service(
        "support.kit_app:create_app",
        settings,
        form=PlainForm(),
    )


if __name__ == "__main__":
    main()
