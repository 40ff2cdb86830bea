"""For operators and orchestrators: is it alive, can it serve, what has it done."""

from functools import partial
from http import HTTPStatus

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ai_proxy_service.api.documentation import operations_documentation
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.services.credits_api import CreditsApi, Readiness
from service_kit.metrics import metrics_endpoint
from service_kit.shared_work import SharedWork

READY_SECONDS_MAX = 2.0


def operations_router(metrics: ProxyMetrics, credits_url: str) -> APIRouter:
    """Return `/health`, `/ready` and `/metrics`."""
    router = APIRouter(tags=["operations"])
    asking = SharedWork[Readiness]()

    @router.get("/health", summary="Liveness", **operations_documentation("It lives"))
    async def health() -> Response:
        """Answer as long as the process runs."""
        return _status(HTTPStatus.OK, "ok", {})

    @router.get(
        "/ready",
        summary="Readiness",
        **operations_documentation("It can serve", further={503: "Completions can't be served"}),
    )
    async def ready(request: Request) -> Response:
        """Tell whether completions can be served: the credits service must be."""
        if not credits_url:
            return _status(HTTPStatus.OK, "ready", {"credits": "not configured"})
        state = await asking.run(partial(ledger_of(request).readiness, READY_SECONDS_MAX))
        if state != "ready":
            return _status(HTTPStatus.SERVICE_UNAVAILABLE, "not ready", {"credits": state})
        return _status(HTTPStatus.OK, "ready", {"credits": state})

    router.add_api_route(
        "/metrics",
        metrics_endpoint(metrics, metrics.json_view),
        summary="Metrics, as JSON or for Prometheus",
        **operations_documentation(
            "What it has done", "text/plain", "application/openmetrics-text"
        ),
    )
    return router


def ledger_of(request: Request) -> CreditsApi:
    """Return the way to the credits service."""
    ledger: CreditsApi = request.state.ledger
    return ledger


def _status(status: HTTPStatus, text: str, checks: dict[str, str]) -> Response:
    body = {"status": text, "service": "ai-proxy-service", **({"checks": checks} if checks else {})}
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")
