"""`POST /v1/chat/completions`, whole and streamed."""

import secrets
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ai_proxy_service.api.documentation import chat_documentation
from ai_proxy_service.api.event_stream import EventStream
from ai_proxy_service.api.gateway import Gateway, gateway_of, principal_of
from ai_proxy_service.api.tracking import Tracker
from ai_proxy_service.core.completion import Completion
from ai_proxy_service.core.errors import InvalidRequestError, ModelNotFoundError
from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.core.models import resolve_model
from ai_proxy_service.core.money import usd_text
from ai_proxy_service.core.order import Order
from ai_proxy_service.translation.answer import AnswerState
from ai_proxy_service.translation.errors import to_service_error
from ai_proxy_service.translation.finish import LENGTH
from ai_proxy_service.translation.openai_types import ChatRequest
from ai_proxy_service.translation.request import (
    TranslatedChat,
    least_thinking,
    parse_chat,
    to_gemini,
)
from ai_proxy_service.translation.response import chat_completion
from ai_proxy_service.translation.stream import ChatStreamTranslator
from service_kit.request_id import current_request_id

router = APIRouter()
OPENAI_VERSION = "2020-10-01"


@router.post("/chat/completions", **chat_documentation())
async def create_chat_completion(request: Request) -> Response:
    """Answer a conversation, whole or as a stream of events."""
    gateway = gateway_of(request)
    tracker = Tracker(gateway.metrics)
    try:
        return await _complete(request, gateway, tracker)
    except BaseException:
        tracker.finish(successful=False)
        raise


async def _complete(request: Request, gateway: Gateway, tracker: Tracker) -> Response:
    chat = parse_chat(await request.body())
    order, translated = _order(request, gateway, chat)
    tracker.model = order.model
    try:
        completion = await gateway.relay.open(order)
    except GeminiError as error:
        raise to_service_error(error) from error
    tracker.first_chunk()
    created = int(time.time())
    headers = _headers(tracker, completion, translated)
    if chat.stream:
        options = chat.stream_options
        translator = ChatStreamTranslator(
            completion_id=order.completion_id,
            created=created,
            model=chat.model,
            include_usage=bool(options and options.include_usage),
        )
        return EventStream(completion, translator, tracker, headers)
    return await _whole(completion, chat.model, created, tracker, headers)


def _order(request: Request, gateway: Gateway, chat: ChatRequest) -> tuple[Order, TranslatedChat]:
    model = resolve_model(chat.model, gateway.aliases)
    price = gateway.catalog.find(model)
    if price is None:
        raise ModelNotFoundError(chat.model)
    translated = to_gemini(chat, model)
    principal = principal_of(request)
    order = Order(
        completion_id=f"chatcmpl-{secrets.token_hex(14)}",
        request_id=current_request_id(),
        account=_account(chat, principal.name),
        key_name=principal.name,
        model=model,
        price=price,
        catalog_version=gateway.catalog.version,
        body=translated.body,
        encoded_bytes=len(msgspec.json.encode(translated.body)),
        max_output_tokens=min(
            translated.max_output_tokens or price.max_output_tokens, price.max_output_tokens
        ),
        least_thinking=least_thinking(chat, model),
        streamed=bool(chat.stream),
    )
    return order, translated


def _account(chat: ChatRequest, key_name: str) -> str:
    """Return who pays: a configured key speaks for the operator, who may name the user."""
    account = chat.user or chat.user_id or key_name
    if not account.isprintable():
        raise InvalidRequestError(
            "Invalid value for 'user': it has characters that can't be printed.", field="user"
        )
    return account


async def _whole(
    completion: Completion,
    model: str,
    created: int,
    tracker: Tracker,
    headers: Mapping[str, str],
) -> Response:
    answer = AnswerState()
    try:
        while chunks := await completion.receive():
            for chunk in chunks:
                answer.collect(chunk)
        settled = await completion.settle()
    except GeminiError as error:
        await completion.settle(estimated=True)
        raise to_service_error(error) from error
    finally:
        completion.abandon()
    finish = LENGTH if completion.cut_off else answer.finish()
    body = chat_completion(
        answer,
        completion_id=completion.order.completion_id,
        created=created,
        model=model,
        finish=finish,
        usage=completion.usage,
    )
    credits_headers = {"x-credits-charged": usd_text(settled.charged_nanos)}
    if settled.available_nanos is not None:
        credits_headers["x-credits-available"] = usd_text(settled.available_nanos)
    tracker.finish(successful=True)
    return Response(
        msgspec.json.encode(body),
        media_type="application/json",
        headers={**headers, **credits_headers},
    )


def _headers(
    tracker: Tracker, completion: Completion, translated: TranslatedChat
) -> dict[str, str]:
    headers: dict[str, Any] = {
        "openai-version": OPENAI_VERSION,
        "openai-processing-ms": str(round(tracker.elapsed_seconds * 1000)),
    }
    if completion.lowered_max_tokens is not None:
        headers["x-credits-max-output-tokens"] = str(completion.lowered_max_tokens)
    if translated.ignored:
        headers["x-proxy-ignored-params"] = ", ".join(translated.ignored)
    return headers
