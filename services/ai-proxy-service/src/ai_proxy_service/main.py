"""Put the proxy together: settings in, app out. Nothing happens at import."""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI

from ai_proxy_service.api.errors import OpenAIErrorForm
from ai_proxy_service.api.gateway import Gateway
from ai_proxy_service.api.models import ModelList
from ai_proxy_service.api.routes import (
    COMPLETION_PATHS,
    OWN_HEADERS,
    add_routes,
    openapi_document,
)
from ai_proxy_service.core.interfaces import (
    BillingService,
    CallMemory,
    GeminiClient,
    MediaFetcher,
)
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.models import parse_aliases
from ai_proxy_service.core.pricing import PriceCatalog, PriceCatalogError, load_catalog
from ai_proxy_service.core.relay import Relay
from ai_proxy_service.middleware.auth import KEY_HEADERS, authentication
from ai_proxy_service.middleware.rate_limit import rate_rules
from ai_proxy_service.services.billing_service import (
    CreditsBillingService,
    LoggingBillingService,
)
from ai_proxy_service.services.call_memory import open_call_memory
from ai_proxy_service.services.credits_api import CreditsApi, connect
from ai_proxy_service.services.gemini_client import make_gemini_client
from ai_proxy_service.services.media_fetcher import HttpMediaFetcher
from ai_proxy_service.services.outbox import Outbox
from ai_proxy_service.settings import ProxySettings
from service_kit.errors import install_error_handlers
from service_kit.logging import configure_logging, get_logger
from service_kit.middleware import middleware_stack
from service_kit.server import serve
from service_kit.settings import load_settings, settings_failure

SERVICE = "ai-proxy-service"
# Of the time for a graceful stop: first clients may have their answers to the end, then
# answers without a client are read on.
_RELAY_PART = 1 / 3
_log = get_logger(__name__)


def create_app(
    settings: ProxySettings,
    *,
    gemini: GeminiClient | None = None,
    billing: BillingService | None = None,
) -> FastAPI:
    """Make the app.

    Args:
        settings: the operator's decisions.
        gemini: used instead of the client that the settings name.
        billing: used instead of the service that the settings name.

    Raises:
        PriceCatalogError: the price catalogue can't be used.
    """
    catalog = load_catalog(settings.price_catalog_path, settings.price_markup)
    metrics = ProxyMetrics()
    form = OpenAIErrorForm()
    app = FastAPI(
        title="AI proxy",
        version="0.1.0",
        description="OpenAI's chat API in front of Google Gemini, paid for from prepaid credit.",
        lifespan=_lifespan(settings, catalog, metrics, gemini, billing),
        middleware=middleware_stack(
            settings,
            form=form,
            http_metrics=metrics.http,
            authenticate=authentication(settings),
            rate_rules=rate_rules(settings, COMPLETION_PATHS),
            key_headers=KEY_HEADERS,
            exposed_headers=OWN_HEADERS,
        ),
        redirect_slashes=False,
        redoc_url=None,
    )
    install_error_handlers(app, form)
    add_routes(app, metrics, settings.credits_service_url)
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]  # FastAPI's own way
    return app


def _lifespan(
    settings: ProxySettings,
    catalog: PriceCatalog,
    metrics: ProxyMetrics,
    gemini: GeminiClient | None,
    billing: BillingService | None,
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[dict[str, Any]]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            state: dict[str, Any] = {}
            client = gemini or make_gemini_client(
                settings.gemini_client,
                base_url=settings.gemini_base_url,
                keys=settings.gemini_keys(),
                connections_max=settings.gemini_connections_max,
                sdk_threads=settings.gemini_sdk_threads,
            )
            stack.push_async_callback(client.aclose)
            biller = billing or await _open_billing(settings, metrics, stack, state)
            relay = Relay(
                gemini=client,
                billing=biller,
                metrics=metrics,
                policy=settings.hold_policy,
                drain_on_disconnect=settings.on_disconnect == "drain",
            )
            # Last in, first out: what still runs is settled before any pool closes.
            stack.push_async_callback(
                relay.aclose, settings.graceful_shutdown_seconds * _RELAY_PART
            )
            gateway = Gateway(
                aliases=parse_aliases(settings.model_aliases),
                catalog=catalog,
                gemini=client,
                relay=relay,
                metrics=metrics,
                calls=await _open_call_memory(settings, stack),
                media=_open_media(settings, stack),
                safety_threshold=settings.safety_threshold or None,
                usage_always=settings.stream_usage == "always",
            )
            yield {**state, "gateway": gateway, "models": ModelList(gateway)}

    return lifespan


async def _open_billing(
    settings: ProxySettings, metrics: ProxyMetrics, stack: AsyncExitStack, state: dict[str, Any]
) -> BillingService:
    if not settings.billing_enforced:
        _log.warning(
            "billing_not_enforced",
            consequence="every request is served; charges are only logged and counted",
            remedy="set CREDITS_SERVICE_URL and CREDITS_SERVICE_API_KEY",
        )
        return LoggingBillingService()
    try:
        outbox = await Outbox.open(
            settings.data_dir / "outbox.sqlite3",
            waiting=metrics.settlements_waiting,
            failed=metrics.settlements_failed,
        )
    except (OSError, sqlite3.Error) as error:
        sys.exit(settings_failure([f"DATA_DIR: {settings.data_dir} can't be used ({error})"]))
    stack.push_async_callback(outbox.aclose)
    client = connect(
        settings.credits_service_url, settings.credits_service_api_key.get_secret_value()
    )
    service = CreditsBillingService(CreditsApi(client), outbox, metrics)
    stack.push_async_callback(service.aclose)
    delivery = asyncio.create_task(outbox.deliver_all(service.deliver), name="outbox")
    stack.push_async_callback(_stop, delivery)
    state["credits_client"] = client
    return service


async def _open_call_memory(settings: ProxySettings, stack: AsyncExitStack) -> CallMemory:
    try:
        calls = await open_call_memory(
            settings.call_memory_uri.get_secret_value(), settings.data_dir
        )
    except ValueError as error:
        sys.exit(settings_failure([f"CALL_MEMORY_URI: {error}"]))
    except (OSError, sqlite3.Error) as error:
        sys.exit(settings_failure([f"DATA_DIR: {settings.data_dir} can't be used ({error})"]))
    stack.push_async_callback(calls.aclose)
    return calls


def _open_media(settings: ProxySettings, stack: AsyncExitStack) -> MediaFetcher:
    media = HttpMediaFetcher(
        max_bytes=settings.media_max_bytes,
        timeout_seconds=settings.media_timeout_seconds,
        allowed_networks=settings.media_allowed_networks,
    )
    stack.push_async_callback(media.aclose)
    return media


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def build_app() -> FastAPI:
    """Make the app from the environment; uvicorn calls this in each worker."""
    settings = load_settings(ProxySettings)
    configure_logging(service=SERVICE, level=settings.log_level, log_format=settings.log_format)
    try:
        return create_app(settings)
    except PriceCatalogError as error:
        sys.exit(settings_failure([f"PRICE_CATALOG_PATH: {error}"]))


def main() -> None:
    """Serve the proxy until a signal ends it."""
    settings = load_settings(ProxySettings)
    configure_logging(service=SERVICE, level=settings.log_level, log_format=settings.log_format)
    serve(
        "ai_proxy_service.main:build_app",
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        graceful_shutdown_seconds=round(settings.graceful_shutdown_seconds * (1 - _RELAY_PART)),
    )
