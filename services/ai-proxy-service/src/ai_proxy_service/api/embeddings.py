"""`POST /v1/embeddings`."""

import asyncio
import secrets

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ai_proxy_service.api.documentation import embeddings_documentation
from ai_proxy_service.api.gateway import (
    Gateway,
    gateway_of,
    issued_key_of,
    key_use_of,
    principal_of,
)
from ai_proxy_service.api.serving import (
    account_of,
    end_user_of,
    find_model,
    ignored_header,
    settled_response,
)
from ai_proxy_service.api.tracking import Tracker
from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.core.interfaces import Embeddings
from ai_proxy_service.core.order import Order
from ai_proxy_service.core.price_book import PricedModel
from ai_proxy_service.core.usage import TokenUsage
from ai_proxy_service.translation.embeddings import (
    EmbeddingRequest,
    bound_tokens,
    count_body,
    embed_options,
    embeddings_body,
    estimated_tokens,
    parse_embeddings,
    texts_of,
)
from ai_proxy_service.translation.errors import to_service_error
from ai_proxy_service.translation.request import ignored_names
from service_kit.logging import get_logger
from service_kit.request_id import current_request_id

_log = get_logger(__name__)
router = APIRouter()


@router.post("/embeddings", **embeddings_documentation())
async def create_embeddings(request: Request) -> Response:
    """Turn texts into vectors."""
    gateway = gateway_of(request)
    tracker = Tracker(gateway.metrics)
    with tracker.failures():
        return await _embed(request, gateway, tracker)


async def _embed(request: Request, gateway: Gateway, tracker: Tracker) -> Response:
    raw = await request.body()
    wanted = parse_embeddings(raw)
    model = find_model(request, wanted.model, kind="embedding")
    texts, options = texts_of(wanted), embed_options(wanted)
    tracker.model = model.name
    order = _order(request, wanted, texts, model)

    async def call() -> tuple[Embeddings, TokenUsage, bool]:
        found = await gateway.gemini.embed(model.name, texts, options)
        tokens, estimated = await _tokens(gateway, order, found, texts)
        return found, TokenUsage(prompt_tokens=tokens, total_tokens=tokens), estimated

    try:
        found, usage, settled = await gateway.relay.call(order, call)
    except GeminiError as error:
        raise to_service_error(error) from error
    # Encoding some thousand vectors takes seconds, which other requests should not wait for.
    body = await asyncio.to_thread(
        embeddings_body,
        wanted.model,
        found.vectors,
        wanted.encoding_format,
        usage.prompt_tokens,
        settled.charged_nanos,
    )
    tracker.finish(successful=True)
    return settled_response(body, settled, ignored_header(ignored_names(raw, EmbeddingRequest)))


def _order(
    request: Request, wanted: EmbeddingRequest, texts: list[str], model: PricedModel
) -> Order:
    return Order(
        completion_id=f"embd-{secrets.token_hex(14)}",
        request_id=current_request_id(),
        account=account_of(request, wanted.user or wanted.user_id),
        key_name=principal_of(request).name,
        model=model.name,
        price=model.price,
        catalog_version=model.catalog_version,
        body=count_body(texts),
        prompt_bound_tokens=bound_tokens(texts, model.price.context_tokens),
        max_output_tokens=0,
        least_thinking=None,
        streamed=False,
        issued_key=issued_key_of(request),
        key_use=key_use_of(request),
        end_user=end_user_of(request, wanted.user or wanted.user_id),
    )


async def _tokens(
    gateway: Gateway, order: Order, found: Embeddings, texts: list[str]
) -> tuple[int, bool]:
    """Return how many tokens are charged, and whether that is an estimate.

    Older models don't report them; they are counted then, and estimated if that fails.
    """
    tokens = found.prompt_tokens
    if tokens is None:
        try:
            tokens = await gateway.gemini.count_tokens(order.model, order.body)
        except GeminiError as error:
            _log.warning("embedding_tokens_estimated", model=order.model, error=str(error))
            return estimated_tokens(texts, order.price.context_tokens), True
    # The model reads no more of a text than fits, but counts all of it.
    return min(tokens, order.prompt_bound_tokens), tokens > order.prompt_bound_tokens
