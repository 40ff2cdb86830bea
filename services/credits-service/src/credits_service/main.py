"""The composition root: settings in, app out; the lifespan owns every pool and closes it."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware

from credits_service.api import hot_routes
from credits_service.api.key_body import render_key
from credits_service.api.openapi import install_openapi
from credits_service.api.operations import SERVICE, add_operational_routes
from credits_service.api.problems import ProblemForm
from credits_service.api.render import render
from credits_service.api.routes import api_router
from credits_service.api.services import HoldLimits, Services
from credits_service.core.errors import ConfigurationError
from credits_service.core.metrics import LedgerMetrics
from credits_service.db.engine import open_database
from credits_service.db.exclusive import exclusive
from credits_service.db.hold_census import HoldCensus
from credits_service.db.key_queries import KeyQueries
from credits_service.db.key_uses import KeyUses
from credits_service.db.keys import KeyStore
from credits_service.db.load import Clock
from credits_service.db.migrate import migrate
from credits_service.db.prepare import prepare
from credits_service.db.queries import LedgerQueries
from credits_service.db.retention import KeyRetention
from credits_service.db.store import LedgerStore
from credits_service.db.webhook_outbox import WebhookOutbox
from credits_service.ledger.sweeper import Sweeper
from credits_service.ledger.writer import Writer
from credits_service.middleware.auth import authenticate_with
from credits_service.settings import CreditsSettings
from credits_service.webhooks.delivery import Deliverer
from credits_service.webhooks.sender import Sender
from service_kit.drain_middleware import DrainMiddleware
from service_kit.errors import install_error_handlers
from service_kit.garbage import leave_out_what_is_there
from service_kit.hot_routes import HotRoutes
from service_kit.loop_lag import LoopLag
from service_kit.metrics import HttpMetrics, MetricsRegistry
from service_kit.middleware import middleware_stack
from service_kit.rate_limit import RateRule
from service_kit.server import prepare_process, serve_service
from service_kit.settings import load_settings
from service_kit.tracing import FASTAPI_TELEMETRY, close_tracing, configure_tracing

_NANOSECONDS_PER_MICRO = 1_000


def _system_clock() -> int:
    return time.time_ns() // _NANOSECONDS_PER_MICRO


def _hold_limits(settings: CreditsSettings) -> HoldLimits:
    return HoldLimits(settings.hold_ttl_default_seconds, settings.hold_ttl_max_seconds)


def create_app(settings: CreditsSettings, *, clock: Clock | None = None) -> FastAPI:
    """Make the app.

    Args:
        settings: how it is set up.
        clock: microseconds since 1970; by default the database's clock on PostgreSQL, and on
            SQLite, which runs in this process, this process's.
    """
    form = ProblemForm()
    registry = MetricsRegistry()
    metrics = LedgerMetrics(registry.registry)
    loop_lag = LoopLag(registry.registry)
    drain = settings.drain()
    service_keys, admin_keys = settings.keys()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database = open_database(settings.ledger_url(), settings.database_limits())
        ticking = _system_clock if clock is None and database.is_sqlite else clock
        queries = LedgerQueries(database, ticking)
        target = settings.webhook_target()
        deliverer = target and Deliverer(WebhookOutbox(database, ticking), Sender(target), metrics)
        store = LedgerStore(
            database,
            render=render,
            clock=ticking,
            events=settings.event_rules(),
            on_events=deliverer.wake if deliverer else None,
            on_booked=metrics.money.booked,
        )
        writer = Writer(store, metrics)
        sweeper = Sweeper(
            queries,
            KeyRetention(database, ticking, days=settings.idempotency_retention_days),
            writer,
            HoldCensus(queries, metrics.money),
            interval_seconds=settings.sweep_interval_seconds,
        )
        key_uses = KeyUses(database)
        app.state.services = Services(
            writer=writer,
            queries=queries,
            metrics=metrics,
            hold_limits=_hold_limits(settings),
            keys=KeyStore(database, ticking, render=render_key),
            key_queries=KeyQueries(queries),
            key_uses=key_uses,
        )
        try:
            await migrate(database.writer)
            writer.start()
            sweeper.start()
            key_uses.start()
            if deliverer:
                deliverer.start()
            with drain.on_signals():
                async with loop_lag.watched():
                    yield
        finally:
            await sweeper.close()
            await key_uses.close()
            await writer.close()
            if deliverer:
                await deliverer.close()
            await database.close()
            await close_tracing()

    app = FastAPI(
        title="Credits service",
        description="Prepaid balances in USD: holds, charges, top-ups, and their ledger.",
        version="1",
        lifespan=lifespan,
        telemetry=FASTAPI_TELEMETRY,
        # A redirection would lead to whatever host the request names.
        redirect_slashes=False,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.docs_enabled else None,
        middleware=[
            *middleware_stack(
                settings,
                form=form,
                http_metrics=HttpMetrics(registry.registry),
                authenticate=(
                    authenticate_with(service_keys, admin_keys) if settings.auth_enabled else None
                ),
                rate_rules=(RateRule("requests", settings.rate_limit_per_minute),),
                # Its callers are the operator's own services, all behind few addresses: the
                # limit is for those who guess keys.
                limit_known_callers=False,
            ),
            Middleware(DrainMiddleware, drain=drain, form=form),
            Middleware(
                HotRoutes, form=form, exact=hot_routes.EXACT, identified=hot_routes.IDENTIFIED
            ),
        ],
    )
    install_error_handlers(app, form)
    add_operational_routes(app, registry)
    app.include_router(api_router)
    install_openapi(app)
    return app


def build_app() -> FastAPI:
    """Make the app of a worker from the environment."""
    settings = load_settings(CreditsSettings)
    prepare_process(SERVICE, settings)
    configure_tracing(service=SERVICE, endpoint=settings.otel_exporter_otlp_endpoint)
    app = create_app(settings)
    leave_out_what_is_there()
    return app


def main() -> None:
    """Run the service: prepare the ledger, then serve until a signal ends it."""
    settings = load_settings(CreditsSettings)
    prepare_process(SERVICE, settings)
    url = settings.ledger_url()
    try:
        with exclusive(url):
            asyncio.run(
                prepare(
                    url,
                    settings.database_limits(),
                    wait_seconds=settings.database_start_timeout_seconds,
                )
            )
            serve_service(
                "credits_service.main:build_app",
                settings,
                form=ProblemForm(),
            )
    except ConfigurationError as error:
        sys.exit(str(error))
