"""`/health`, `/ready` and `/metrics`: what operators and orchestrators ask."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from credits_service.api.openapi import documented_without_key
from credits_service.api.services import services_of
from credits_service.core.errors import LedgerUnavailableError
from credits_service.core.money_metrics import money_view
from service_kit.loop_lag import loop_view
from service_kit.metrics import MetricsRegistry, Readings, metrics_endpoint
from service_kit.store_health import limits_view

SERVICE = "credits-service"
_ERROR_STATUSES = ("4", "5")
_JSON: Mapping[str, dict[str, Any]] = {"application/json": {"type": "object"}}
# Prometheus' forms, for who asks for them.
_METRICS = {
    **_JSON,
    "text/plain": {"type": "string"},
    "application/openmetrics-text": {"type": "string"},
}


async def health(_request: Request) -> Response:
    """Say that the process lives; nothing else is asked."""
    return JSONResponse({"status": "ok", "service": SERVICE})


async def ready(request: Request) -> Response:
    """Say whether requests can be served: the database answers and is migrated."""
    if not await services_of(request).queries.is_ready():
        raise LedgerUnavailableError("The ledger's schema is not the one this version needs.")
    return JSONResponse({"status": "ready", "service": SERVICE})


def _json_view(started: float) -> Callable[[Readings], Mapping[str, Any]]:
    def view(readings: Readings) -> Mapping[str, Any]:
        by_status = readings.by_label("http_server_requests_total", "status")
        total = sum(by_status.values())
        failed = sum(n for status, n in by_status.items() if status.startswith(_ERROR_STATUSES))
        batches = readings.total("ledger_batch_size_count")
        commands = readings.total("ledger_batch_size_sum")
        return {
            "service": SERVICE,
            "timestamp": datetime.now(UTC).isoformat(),
            "uptime_seconds": round(time.monotonic() - started, 3),
            "requests": {
                "total": int(total),
                "successful": int(total - failed),
                "failed": int(failed),
                "by_status": {status: int(n) for status, n in by_status.items()},
            },
            "performance": {"event_loop": loop_view(readings)},
            "limits": limits_view(readings),
            "ledger": {
                "operations": {
                    name: int(n)
                    for name, n in readings.by_label("ledger_operations_total", "operation").items()
                },
                "refused_for_lack_of_credit": int(
                    readings.total("ledger_operations_total", status="402")
                ),
                "replays": int(readings.total("ledger_replays_total")),
                "unavailable": int(readings.total("ledger_unavailable_total")),
                "batches": int(batches),
                "commands_per_batch": round(commands / batches, 3) if batches else 0.0,
            },
            "money": money_view(readings),
            "webhooks": {
                "delivered": int(
                    readings.total("ledger_webhook_attempts_total", outcome="delivered")
                ),
                "failed": int(readings.total("ledger_webhooks_failed_total")),
                "waiting": int(readings.total("ledger_webhooks_waiting")),
            },
        }

    return view


def add_operational_routes(app: FastAPI, registry: MetricsRegistry) -> None:
    """Mount the endpoints, unversioned and beside the API."""
    metrics = metrics_endpoint(registry, _json_view(time.monotonic()))
    for path, endpoint, documentation in (
        ("/health", health, documented_without_key("It lives.", _JSON)),
        ("/ready", ready, documented_without_key("It can serve.", _JSON, 503)),
        ("/metrics", metrics, documented_without_key("What it has done.", _METRICS, 429)),
    ):
        app.add_api_route(path, endpoint, tags=["operations"], **documentation)
        app.add_api_route(f"/api/v1{path}", endpoint, response_model=None, include_in_schema=False)
