"""All routes of the proxy."""

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from ai_proxy_service.api import (
    account_credits,
    chat,
    embeddings,
    models,
    quote,
    receipts,
    text_completions,
)
from ai_proxy_service.api.documentation import component_schemas
from ai_proxy_service.api.idempotency import REPLAYED_HEADER
from ai_proxy_service.api.operations import operations_router
from ai_proxy_service.api.scopes import needs
from ai_proxy_service.core.issued_keys import Scope
from ai_proxy_service.core.metrics import ProxyMetrics

# Each with what a key must be allowed to do.
SURFACES: tuple[tuple[APIRouter, Scope], ...] = (
    (chat.router, "chat"),
    (text_completions.router, "chat"),
    (embeddings.router, "embeddings"),
    (models.router, "models"),
    (quote.router, "chat"),
    (receipts.router, "billing"),
    (account_credits.router, "billing"),
)
# Headers of ours that tell what OpenAI's answers have no place for.
OWN_HEADERS = (
    "x-credits-charged",
    "x-credits-available",
    "x-credits-max-output-tokens",
    "x-credits-exhausted",
    "x-credits-required",
    "x-credits-waiting-helps",
    "x-proxy-ignored-params",
    REPLAYED_HEADER,
)
COMPLETION_PATHS = frozenset(
    {"/v1/chat/completions", "/chat/completions", "/v1/completions", "/completions"}
)
# Where the limits of issued keys hold.
LIMITED_PATHS = COMPLETION_PATHS | {"/v1/embeddings", "/embeddings", "/v1/quote", "/quote"}


def add_routes(app: FastAPI, metrics: ProxyMetrics, credits_url: str) -> None:
    """Mount every surface, with and without `/v1`, and what operators need."""
    app.include_router(operations_router(metrics, credits_url))
    for router, scope in SURFACES:
        needed = [needs(scope)]
        app.include_router(router, prefix="/v1", dependencies=needed)
        # Some clients are given a base URL without the version.
        app.include_router(router, include_in_schema=False, dependencies=needed)


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with the bodies that the routes decode themselves."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(component_schemas())
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"bearer": []}]
        app.openapi_schema = document
    return app.openapi_schema
