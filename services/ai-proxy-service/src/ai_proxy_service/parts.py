"""What the app works with while it runs: opened by its lifespan, closed in reverse order.

Where a store that a setting names can't be used the program ends, with a line that says so.
"""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from ai_proxy_service.core.answering import Answers
from ai_proxy_service.core.interfaces import BillingService, CallMemory, MediaFetcher
from ai_proxy_service.core.key_refusals import KeyRefusals
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.core.price_book import PriceBook
from ai_proxy_service.core.usage_log import UsageLog
from ai_proxy_service.services.answer_stores import open_answer_store
from ai_proxy_service.services.billing_service import CreditsBillingService
from ai_proxy_service.services.call_memory import open_call_memory
from ai_proxy_service.services.credits_api import CreditsApi
from ai_proxy_service.services.key_limiter import KeyLimiter
from ai_proxy_service.services.logging_billing import LoggingBillingService
from ai_proxy_service.services.media_fetcher import HttpMediaFetcher
from ai_proxy_service.services.outbox import Outbox
from ai_proxy_service.services.price_watch import PriceWatch
from ai_proxy_service.services.refusal_reports import RefusalReports
from ai_proxy_service.services.usage_log import QueuedUsageLog, open_usage_log
from ai_proxy_service.settings import BUNDLED_CATALOG, ProxySettings
from service_kit.logging import get_logger
from service_kit.settings import settings_failure
from service_kit.store_health import StoreHealth

_log = get_logger(__name__)
T = TypeVar("T")


def watch_prices(
    settings: ProxySettings, prices: PriceBook, metrics: ProxyMetrics, stack: AsyncExitStack
) -> None:
    """Look for changes of the operator's catalogue as long as the app runs."""
    metrics.sells_at(prices.catalog.version)
    if settings.price_catalog_path == BUNDLED_CATALOG:
        return
    watch = PriceWatch(settings.price_catalog_path, settings.price_markup, prices, metrics)
    looking = asyncio.create_task(watch.run(), name="price-watch")
    stack.push_async_callback(_stop, looking)


def limit_store(settings: ProxySettings, metrics: ProxyMetrics) -> StoreHealth:
    """Return what is known of the store of all limits: those per address, those of keys."""
    return StoreHealth(metrics.http.limit_store, settings.rate_limit_storage_uri.get_secret_value())


def key_limiter(settings: ProxySettings, metrics: ProxyMetrics, health: StoreHealth) -> KeyLimiter:
    """Return what counts requests of issued keys; it connects once it is needed."""
    uri = settings.rate_limit_storage_uri.get_secret_value()
    try:
        return KeyLimiter(
            uri,
            settings.workers,
            metrics,
            health=health,
            store_timeout_seconds=settings.rate_limit_store_timeout_seconds,
        )
    except ValueError as error:
        sys.exit(settings_failure([f"RATE_LIMIT_STORAGE_URI: {error}"]))


def keep_slots(limiter: KeyLimiter, stack: AsyncExitStack) -> None:
    """Keep the slots of running requests as long as the app runs."""
    stack.push_async_callback(limiter.aclose)
    keeping = asyncio.create_task(limiter.keep_slots(), name="key-slots")
    stack.push_async_callback(_stop, keeping)


def report_refusals(refusals: KeyRefusals, ledger: CreditsApi, stack: AsyncExitStack) -> None:
    """Report refused uses of issued keys as long as the app runs, and what is left at its end."""
    reports = RefusalReports(refusals, ledger)
    stack.push_async_callback(reports.aclose)
    reporting = asyncio.create_task(reports.run(), name="key-refusals")
    stack.push_async_callback(_stop, reporting)


async def usage_log(
    settings: ProxySettings, metrics: ProxyMetrics, stack: AsyncExitStack
) -> QueuedUsageLog:
    """Open the record of charges."""
    days = settings.usage_log_retention_days
    opener = partial(open_usage_log, metrics=metrics, retention_days=days)
    log = await _opened(opener, "USAGE_LOG_URL", settings.usage_log_url, settings)
    stack.push_async_callback(log.aclose)
    return log


async def billing(
    settings: ProxySettings,
    metrics: ProxyMetrics,
    log: UsageLog,
    ledger: CreditsApi | None,
    stack: AsyncExitStack,
) -> BillingService:
    """Return the way to the ledger, or one that only logs where there is no credits service."""
    if ledger is None:
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
            oldest=metrics.settlements_oldest,
            failed=metrics.settlements_failed,
        )
    except (OSError, sqlite3.Error) as error:
        sys.exit(settings_failure([f"DATA_DIR: {settings.data_dir} can't be used ({error})"]))
    stack.push_async_callback(outbox.aclose)
    service = CreditsBillingService(ledger, outbox, metrics, log)
    stack.push_async_callback(service.aclose)
    delivery = asyncio.create_task(outbox.deliver_all(service.deliver), name="outbox")
    stack.push_async_callback(_stop, delivery)
    return service


async def answers(settings: ProxySettings, metrics: ProxyMetrics, stack: AsyncExitStack) -> Answers:
    """Open the answers under idempotency keys."""
    store = await _opened(
        open_answer_store, "ANSWER_STORE_URI", settings.answer_store_uri, settings
    )
    stack.push_async_callback(store.aclose)
    return Answers(store, metrics)


async def call_memory(settings: ProxySettings, stack: AsyncExitStack) -> CallMemory:
    """Open what is remembered of tool calls."""
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


def media_fetcher(settings: ProxySettings, stack: AsyncExitStack) -> MediaFetcher:
    """Return what fetches files that messages name by URL."""
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
