"""Put the proxy together: settings in, app out. Nothing happens at import."""

import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware

from ai_proxy_service import parts
from ai_proxy_service.api.errors import OpenAIErrorForm
from ai_proxy_service.api.gateway import Gateway
from ai_proxy_service.api.models import ModelList
from ai_proxy_service.api.routes import (
    COMPLETION_PATHS,
    LIMITED_PATHS,
    OWN_HEADERS,
    add_routes,
    openapi_document,
)
from ai_proxy_service.core.interfaces import (
    BillingService,
    GeminiClient,
)
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.models import parse_aliases
from ai_proxy_service.core.price_book import PriceBook
from ai_proxy_service.core.price_catalog import PriceCatalogError, load_catalog
from ai_proxy_service.core.quoting import Quoter
from ai_proxy_service.core.relay import Relay
from ai_proxy_service.middleware.auth import KEY_HEADERS, authentication
from ai_proxy_service.middleware.key_limits import KeyLimitsMiddleware
from ai_proxy_service.middleware.rate_limit import rate_rules
from ai_proxy_service.services.credits_api import CreditsApi, connect
from ai_proxy_service.services.gemini_client import make_gemini_client
from ai_proxy_service.services.key_limiter import KeyLimiter
from ai_proxy_service.services.key_verifier import KeyVerifier
from ai_proxy_service.settings import ProxySettings
from service_kit.errors import install_error_handlers
from service_kit.logging import configure_logging
from service_kit.middleware import middleware_stack
from service_kit.server import serve
from service_kit.settings import load_settings, settings_failure

SERVICE = "ai-proxy-service"
# Of the time for a graceful stop: first clients may have their answers to the end, then
# answers without a client are read on.
_RELAY_PART = 1 / 3


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
    ledger = _ledger(settings)
    limiter = parts.key_limiter(settings, metrics)
    form = OpenAIErrorForm()
    app = FastAPI(
        title="AI proxy",
        version="0.1.0",
        description="OpenAI's chat API in front of Google Gemini, paid for from prepaid credit.",
        lifespan=_lifespan(
            settings, prices, metrics, ledger, limiter, gemini=gemini, billing=billing
        ),
        middleware=[
            *middleware_stack(
                settings,
                form=form,
                http_metrics=metrics.http,
                authenticate=authentication(
                    settings, KeyVerifier(ledger, metrics) if ledger else None
                ),
                rate_rules=rate_rules(settings, COMPLETION_PATHS),
                key_headers=KEY_HEADERS,
                exposed_headers=OWN_HEADERS,
            ),
            Middleware(KeyLimitsMiddleware, limiter=limiter, paths=LIMITED_PATHS, form=form),
        ],
        redirect_slashes=False,
        redoc_url=None,
    )
    install_error_handlers(app, form)
    add_routes(app, metrics, settings.credits_service_url)
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]  # FastAPI's own way
    return app


def _ledger(settings: ProxySettings) -> CreditsApi | None:
    """Return the way to the credits service, if there is one; it connects once it is needed."""
    if not settings.billing_enforced:
        return None
    key = settings.credits_service_api_key.get_secret_value()
    return CreditsApi(connect(settings.credits_service_url, key))


def _lifespan(
    settings: ProxySettings,
    prices: PriceBook,
    metrics: ProxyMetrics,
    ledger: CreditsApi | None,
    limiter: KeyLimiter,
    *,
    gemini: GeminiClient | None,
    billing: BillingService | None,
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[dict[str, Any]]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            if ledger is not None:
                stack.push_async_callback(ledger.aclose)
            parts.keep_slots(limiter, stack)
            parts.watch_prices(settings, prices, metrics, stack)
            client = gemini or make_gemini_client(
                settings.gemini_client,
                base_url=settings.gemini_base_url,
                keys=settings.gemini_keys(),
                connections_max=settings.gemini_connections_max,
                sdk_threads=settings.gemini_sdk_threads,
            )
            stack.push_async_callback(client.aclose)
            log = await parts.usage_log(settings, metrics, stack)
            biller = billing or await parts.billing(settings, metrics, log, ledger, stack)
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
                answers=await parts.answers(settings, metrics, stack),
                quoter=Quoter(gemini=client, billing=biller, policy=settings.hold_policy),
                receipts=log,
                metrics=metrics,
                calls=await parts.call_memory(settings, stack),
                media=parts.media_fetcher(settings, stack),
                safety_threshold=settings.safety_threshold or None,
                usage_always=settings.stream_usage == "always",
            )
            # Last in, first out: what still runs is settled before any pool closes.
            stack.push_async_callback(
                _finish, gateway, settings.graceful_shutdown_seconds * _RELAY_PART
            )
            yield {"ledger": ledger, "gateway": gateway, "models": ModelList(gateway)}

    return lifespan


async def _finish(gateway: Gateway, timeout_seconds: float) -> None:
    """End what runs, all within one time limit."""
    give_up_at = time.monotonic() + timeout_seconds
    await gateway.answers.aclose(timeout_seconds)
    await gateway.relay.aclose(max(0.0, give_up_at - time.monotonic()))


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
