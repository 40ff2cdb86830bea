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
from ai_proxy_service.api import hot_routes
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
from ai_proxy_service.core.key_refusals import KeyRefusals
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
from ai_proxy_service.services.observed_gemini import ObservedGemini
from ai_proxy_service.settings import ProxySettings
from service_kit.drain import Drain
from service_kit.drain_middleware import DrainMiddleware
from service_kit.errors import install_error_handlers
from service_kit.garbage import leave_out_what_is_there
from service_kit.hot_routes import HotRoutes
from service_kit.middleware import middleware_stack
from service_kit.server import prepare_process, serve_service
from service_kit.settings import load_settings, settings_failure
from service_kit.tracing import FASTAPI_TELEMETRY, close_tracing, configure_tracing

SERVICE = "ai-proxy-service"
# Once clients have had their time, answers without a client are read on for half as long.
_SETTLING_PART = 1 / 2


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
    refusals = KeyRefusals(metrics.keys)
    ledger = _ledger(settings)
    limit_store = parts.limit_store(settings, metrics)
    limiter = parts.key_limiter(settings, metrics, limit_store)
    drain = settings.drain()
    form = OpenAIErrorForm()
    app = FastAPI(
        title="AI proxy",
        version="0.1.0",
        description="OpenAI's chat API in front of Google Gemini, paid for from prepaid credit.",
        lifespan=_lifespan(
            settings,
            prices,
            metrics,
            ledger,
            limiter,
            refusals=refusals,
            drain=drain,
            gemini=gemini,
            billing=billing,
        ),
        middleware=[
            *middleware_stack(
                settings,
                form=form,
                http_metrics=metrics.http,
                authenticate=authentication(
                    settings, KeyVerifier(ledger, metrics, refusals) if ledger else None
                ),
                rate_rules=rate_rules(settings, COMPLETION_PATHS),
                key_headers=KEY_HEADERS,
                exposed_headers=OWN_HEADERS,
                limit_store=limit_store,
            ),
            Middleware(DrainMiddleware, drain=drain, form=form),
            Middleware(
                KeyLimitsMiddleware,
                limiter=limiter,
                refusals=refusals,
                paths=LIMITED_PATHS,
                form=form,
            ),
            Middleware(HotRoutes, form=form, exact=hot_routes.EXACT, identified={}),
        ],
        telemetry=FASTAPI_TELEMETRY,
        redirect_slashes=False,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.docs_enabled else None,
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
    refusals: KeyRefusals,
    drain: Drain,
    gemini: GeminiClient | None,
    billing: BillingService | None,
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[dict[str, Any]]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            stack.enter_context(drain.on_signals())
            stack.push_async_callback(close_tracing)
            if ledger is not None:
                stack.push_async_callback(ledger.aclose)
            await stack.enter_async_context(metrics.loop_lag.watched())
            parts.keep_slots(limiter, stack)
            parts.watch_prices(settings, prices, metrics, stack)
            metrics.upstream.keys.set(len(settings.gemini_keys()))
            client = ObservedGemini(
                gemini
                or make_gemini_client(
                    settings.gemini_client,
                    base_url=settings.gemini_base_url,
                    keys=settings.gemini_keys(),
                    connections_max=settings.gemini_connections_max,
                    sdk_threads=settings.gemini_sdk_threads,
                    on_keys_set_aside=metrics.upstream.keys_set_aside.set,
                ),
                metrics.upstream,
                settings.gemini_base_url,
            )
            stack.push_async_callback(client.aclose)
            log = await parts.usage_log(settings, metrics, stack)
            biller = billing or await parts.billing(settings, metrics, log, ledger, stack)
            if ledger is not None:
                # Ends before the biller, which closes the way to the ledger.
                parts.report_refusals(refusals, ledger, stack)
            relay = Relay(
                gemini=client,
                billing=biller,
                metrics=metrics,
                refusals=refusals,
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
                refusals=refusals,
                calls=await parts.call_memory(settings, stack),
                media=parts.media_fetcher(settings, stack),
                safety_threshold=settings.safety_threshold or None,
                usage_always=settings.stream_usage == "always",
            )
            # Last in, first out: what still runs is settled before any pool closes.
            stack.push_async_callback(_finish, gateway, settings.drain_seconds * _SETTLING_PART)
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
    prepare_process(SERVICE, settings)
    configure_tracing(service=SERVICE, endpoint=settings.otel_exporter_otlp_endpoint)
    try:
        app = create_app(settings)
    except PriceCatalogError as error:
        sys.exit(settings_failure([f"PRICE_CATALOG_PATH: {error}"]))
    leave_out_what_is_there()
    return app


def main() -> None:
    """Serve the proxy until a signal ends it, or run the command that the arguments name."""
    if sys.argv[1:]:
        # What commands need is nothing for a server to load.
        from ai_proxy_service.cli.main import run  # noqa: PLC0415

        run()
        return
    settings = load_settings(ProxySettings)
    prepare_process(SERVICE, settings)
    serve_service(
        "ai_proxy_service.main:build_app",
        settings,
        form=OpenAIErrorForm(),
    )
