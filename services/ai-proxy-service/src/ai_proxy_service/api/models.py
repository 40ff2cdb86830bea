"""`GET /v1/models`: what can be asked for, in OpenAI's form."""

import asyncio
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ai_proxy_service.api.documentation import error_responses
from ai_proxy_service.api.documented_headers import answer_headers
from ai_proxy_service.api.gateway import Gateway, gateway_of, issued_key_of, note_refusal
from ai_proxy_service.core.errors import ModelNotFoundError
from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.core.models import resolve_model
from service_kit.logging import get_logger

_log = get_logger(__name__)
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "What Gemini offers and the price list prices",
        "content": {"application/json": {"schema": {"type": "object"}}},
        "headers": answer_headers(200),
    }
}
router = APIRouter(
    tags=["models"], responses={**error_responses(401, 403, 404, 429, 503), **_ANSWER}
)

CACHE_SECONDS = 300.0
# How soon a list that could not be had is asked for again, and how long it may take.
RETRY_SECONDS = 10.0
ASK_SECONDS_MAX = 5.0


class ModelList:
    """The models that Gemini offers and the catalogue prices, asked for now and then."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        # None before Gemini has ever told.
        self._offered: list[str] | None = None
        self._ask_at = float("-inf")
        self._lock = asyncio.Lock()

    async def names(self) -> list[str]:
        """Return the ids; if Gemini can't be asked, those last seen or all priced ones."""
        async with self._lock:
            if time.monotonic() >= self._ask_at:
                await self._refresh()
        # Each time anew: the catalogue may be another than when Gemini was asked.
        priced = self._gateway.prices.catalog.models
        if self._offered is None:
            return sorted(name for name, price in priced.items() if not price.retired)
        return sorted(name for name in self._offered if name in priced)

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(ASK_SECONDS_MAX):
                self._offered = await self._gateway.gemini.list_models()
        except (GeminiError, TimeoutError) as error:
            self._ask_at = time.monotonic() + RETRY_SECONDS
            _log.warning("models_not_listed", error=str(error))
            return
        self._ask_at = time.monotonic() + CACHE_SECONDS


@router.get("/models", response_model=None, summary="List models")
async def list_models(request: Request) -> Response:
    """List what can be asked for with this key."""
    gateway = gateway_of(request)
    data = [_model(name, gateway) for name in await _usable(request)]
    return _json({"object": "list", "data": data})


@router.get("/models/{model:path}", response_model=None, summary="Retrieve a model")
async def retrieve_model(model: str, request: Request) -> Response:
    """Return one model, by its own name or an alias."""
    gateway = gateway_of(request)
    name = resolve_model(model, gateway.aliases)
    issued = issued_key_of(request)
    if name not in await _usable(request):
        priced = name in gateway.prices.catalog.models
        if issued is not None and priced and not issued.may_use(name):
            note_refusal(request, issued, "model_not_allowed")
        raise ModelNotFoundError(model, status=HTTPStatus.NOT_FOUND)
    return _json(_model(name, gateway))


async def _usable(request: Request) -> list[str]:
    models: ModelList = request.state.models
    issued = issued_key_of(request)
    names = await models.names()
    return names if issued is None else [name for name in names if issued.may_use(name)]


def _model(name: str, gateway: Gateway) -> dict[str, Any]:
    catalog = gateway.prices.catalog
    price, day = catalog.models[name], catalog.effective
    return {
        "id": name,
        "object": "model",
        # Gemini's list has no dates; the day of the price list stands in.
        "created": int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()),
        "owned_by": "google",
        "context_window": price.context_tokens,
        **({"max_output_tokens": price.max_output_tokens} if price.max_output_tokens else {}),
    }


def _json(body: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
