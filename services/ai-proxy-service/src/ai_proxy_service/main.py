"""Put the proxy together: settings in, app out. Nothing happens at import."""

import asyncio
import contextlib
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI
from pydantic import SecretStr

from ai_proxy_service.api.errors import OpenAIErrorForm
from ai_proxy_service.api.gateway import Gateway
from ai_proxy_service.api.models import ModelList
from ai_proxy_service.api.routes import (
    COMPLETION_PATHS,
    OWN_HEADERS,
    add_routes,
    openapi_document,
)
from ai_proxy_service.core.answering import Answers
from ai_proxy_service.core.interfaces import (
    BillingService,
    CallMemory,
    GeminiClient,
    MediaFetcher,
)
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.models import parse_aliases
from ai_proxy_service.core.price_book import PriceBook
from ai_proxy_service.core.price_catalog import PriceCatalogError, load_catalog
from ai_proxy_service.core.quoting import Quoter
from ai_proxy_service.core.relay import Relay
from ai_proxy_service.core.usage_log import UsageLog
from ai_proxy_service.middleware.auth import KEY_HEADERS, authentication
from ai_proxy_service.middleware.rate_limit import rate_rules
from ai_proxy_service.services.answer_stores import open_answer_store
from ai_proxy_service.services.billing_service import (
    CreditsBillingService,
    LoggingBillingService,
)
from ai_proxy_service.services.call_memory import open_call_memory
from ai_proxy_service.services.credits_api import CreditsApi, connect
from ai_proxy_service.services.gemini_client import make_gemini_client
from ai_proxy_service.services.media_fetcher import HttpMediaFetcher
from ai_proxy_service.services.outbox import Outbox
from ai_proxy_service.services.price_watch import PriceWatch
from ai_proxy_service.services.usage_log import QueuedUsageLog, open_usage_log
from ai_proxy_service.settings import BUNDLED_CATALOG, ProxySettings
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
T = TypeVar("T")


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
    prices = PriceBook(load_catalog(settings.price_catalog_path, settings.price_markup))
    metrics = ProxyMetrics()
    form = OpenAIErrorForm()
    app = FastAPI(
        title="AI proxy",
        version="0.1.0",
        description="OpenAI's chat API in front of Google Gemini, paid for from prepaid credit.",
        lifespan=_lifespan(settings, prices, metrics, gemini, billing),
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
    prices: PriceBook,
    metrics: ProxyMetrics,
    gemini: GeminiClient | None,
    billing: BillingService | None,
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[dict[str, Any]]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            state: dict[str, Any] = {}
            _watch_prices(settings, prices, metrics, stack)
            client = gemini or make_gemini_client(
                settings.gemini_client,
                base_url=settings.gemini_base_url,
                keys=settings.gemini_keys(),
                connections_max=settings.gemini_connections_max,
                sdk_threads=settings.gemini_sdk_threads,
            )
            stack.push_async_callback(client.aclose)
            log = await _open_usage_log(settings, metrics, stack)
            biller = billing or await _open_billing(settings, metrics, log, stack, state)
            relay = Relay(
                gemini=client,
                billing=biller,
                metrics=metrics,
                log=log,
                policy=settings.hold_policy,
                drain_on_disconnect=settings.on_disconnect == "drain",
            )
            gateway = Gateway(
                aliases=parse_aliases(settings.model_aliases),
                prices=prices,
                gemini=client,
                relay=relay,
                answers=await _open_answers(settings, metrics, stack),
                quoter=Quoter(gemini=client, billing=biller, policy=settings.hold_policy),
                receipts=log,
                metrics=metrics,
                calls=await _open_call_memory(settings, stack),
                media=_open_media(settings, stack),
                safety_threshold=settings.safety_threshold or None,
                usage_always=settings.stream_usage == "always",
            )
            # Last in, first out: what still runs is settled before any pool closes.
            stack.push_async_callback(
                _finish, gateway, settings.graceful_shutdown_seconds * _RELAY_PART
            )
            yield {**state, "gateway": gateway, "models": ModelList(gateway)}

    return lifespan


def _watch_prices(
    settings: ProxySettings, prices: PriceBook, metrics: ProxyMetrics, stack: AsyncExitStack
) -> None:
    metrics.sells_at(prices.catalog.version)
    if settings.price_catalog_path == BUNDLED_CATALOG:
        return
    watch = PriceWatch(settings.price_catalog_path, settings.price_markup, prices, metrics)
    looking = asyncio.create_task(watch.run(), name="price-watch")
    stack.push_async_callback(_stop, looking)


async def _open_usage_log(
    settings: ProxySettings, metrics: ProxyMetrics, stack: AsyncExitStack
) -> QueuedUsageLog:
    days = settings.usage_log_retention_days
    opener = partial(open_usage_log, metrics=metrics, retention_days=days)
    log = await _opened(opener, "USAGE_LOG_URL", settings.usage_log_url, settings)
    stack.push_async_callback(log.aclose)
    return log


async def _open_billing(
    settings: ProxySettings,
    metrics: ProxyMetrics,
    log: UsageLog,
    stack: AsyncExitStack,
    state: dict[str, Any],
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
    service = CreditsBillingService(CreditsApi(client), outbox, metrics, log)
    stack.push_async_callback(service.aclose)
    delivery = asyncio.create_task(outbox.deliver_all(service.deliver), name="outbox")
    stack.push_async_callback(_stop, delivery)
    state["credits_client"] = client
    return service


async def _finish(gateway: Gateway, timeout_seconds: float) -> None:
    """End what runs, all within one time limit."""
    give_up_at = time.monotonic() + timeout_seconds
    await gateway.answers.aclose(timeout_seconds)
    await gateway.relay.aclose(max(0.0, give_up_at - time.monotonic()))


async def _open_answers(
    settings: ProxySettings, metrics: ProxyMetrics, stack: AsyncExitStack
) -> Answers:
    store = await _opened(
        open_answer_store, "ANSWER_STORE_URI", settings.answer_store_uri, settings
    )
    stack.push_async_callback(store.aclose)
    return Answers(store, metrics)


async def _open_call_memory(settings: ProxySettings, stack: AsyncExitStack) -> CallMemory:
    calls = await _opened(open_call_memory, "CALL_MEMORY_URI", settings.call_memory_uri, settings)
    stack.push_async_callback(calls.aclose)
    return calls


async def _opened(
    open_store: Callable[[str, Path], Awaitable[T]],
    setting: str,
    uri: SecretStr,
    settings: ProxySettings,
) -> T:
    """Open a store, or end the program with the name of the setting that is wrong."""
    try:
        return await open_store(uri.get_secret_value(), settings.data_dir)
    except ValueError as error:
        sys.exit(settings_failure([f"{setting}: {error}"]))
    except (OSError, sqlite3.Error) as error:
        sys.exit(settings_failure([f"DATA_DIR: {settings.data_dir} can't be used ({error})"]))


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
    """Serve the proxy until a signal ends it, or run the command that the arguments name."""
    if sys.argv[1:]:
        # What commands need is nothing for a server to load.
        from ai_proxy_service.cli.main import run  # noqa: PLC0415

        run()
        return
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
