"""`POST /v1/chat/completions`, whole and streamed."""

import time
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ai_proxy_service.api.documentation import chat_documentation
from ai_proxy_service.api.event_stream import EventStream
from ai_proxy_service.api.gateway import Gateway, gateway_of
from ai_proxy_service.api.idempotency import answer_once
from ai_proxy_service.api.serving import (
    COMMIT_SECONDS,
    account_of,
    answer_headers,
    client_gone,
    credit_headers,
    find_model,
    left_out,
    make_order,
    opened,
    settled_response,
    translate,
)
from ai_proxy_service.api.tracking import Tracker
from ai_proxy_service.core.completion import Completion
from ai_proxy_service.core.order import Order
from ai_proxy_service.translation.answer import AnswerState
from ai_proxy_service.translation.openai_types import ChatRequest
from ai_proxy_service.translation.request import ignored_names, parse_chat
from ai_proxy_service.translation.response import chat_completion
from ai_proxy_service.translation.stream import ChatStreamTranslator
from ai_proxy_service.translation.tools import Toolbox

router = APIRouter()


@router.post("/chat/completions", **chat_documentation())
async def create_chat_completion(request: Request) -> Response:
    """Answer a conversation, whole or as a stream of events."""
    return await answer_once(request, _answer, "chat/completions")


async def _answer(request: Request) -> Response:
    gateway = gateway_of(request)
    tracker = Tracker(gateway.metrics)
    with tracker.failures():
        return await _complete(request, gateway, tracker)


async def _complete(request: Request, gateway: Gateway, tracker: Tracker) -> Response:
    raw = await request.body()
    chat = parse_chat(raw)
    model = find_model(request, chat.model)
    account = account_of(request, chat.user or chat.user_id)
    translated = await translate(request, chat, model, account)
    order = make_order(
        request,
        chat,
        translated,
        model=model,
        account=account,
        prefix="chatcmpl-",
    )
    tracker.model = model.name
    opening = await opened(request, gateway.relay, order, COMMIT_SECONDS if chat.stream else None)
    if opening is None:
        tracker.finish(successful=False)
        return client_gone()
    ignored = [*translated.ignored, *left_out(gateway, chat), *ignored_names(raw)]
    headers = answer_headers(tracker, opening, ignored)
    answer = AnswerState(
        translated.toolbox,
        one_call=_one_call(chat, translated.toolbox),
        may_be_empty=order.may_be_empty,
    )
    common = _common(chat, order)

    async def remember(answer: AnswerState) -> None:
        calls = answer.remembered()
        if calls:
            await gateway.calls.remember(account, calls)

    if chat.stream:
        return EventStream(
            opening,
            relay=gateway.relay,
            translator=_translator(gateway, chat, answer, common),
            choices=order.candidates,
            remember=remember,
            tracker=tracker,
            headers=headers,
        )
    completion = opening.result()
    try:
        reasons = _read(completion, answer)
        await remember(answer)
    finally:
        settled = await completion.settle()
    body = chat_completion(
        answer,
        **common,
        reasons=reasons,
        usage=completion.usage,
        cost_nanos=settled.charged_nanos,
    )
    tracker.finish(successful=True)
    headers |= credit_headers(completion, reasons)
    return settled_response(msgspec.json.encode(body), settled, headers)


def _common(chat: ChatRequest, order: Order) -> dict[str, Any]:
    """Return what whole answers and streams are made with alike."""
    return {
        "completion_id": order.completion_id,
        "created": int(time.time()),
        "model": chat.model,
        "tier_asked": chat.service_tier is not None,
        "as_wav": chat.audio is None or chat.audio.format != "pcm16",
    }


def _one_call(chat: ChatRequest, toolbox: Toolbox) -> bool:
    return chat.parallel_tool_calls is False or toolbox.legacy


def _translator(
    gateway: Gateway, chat: ChatRequest, answer: AnswerState, common: dict[str, Any]
) -> ChatStreamTranslator:
    options = chat.stream_options
    return ChatStreamTranslator(
        **common,
        answer=answer,
        choices=chat.n or 1,
        include_usage=bool(options and options.include_usage),
        usage_on_finish=gateway.usage_always,
    )


def _read(completion: Completion, answer: AnswerState) -> dict[int, str]:
    """Take in a whole answer, and return the finish reasons of its choices."""
    for chunk in completion.collected:
        answer.add(chunk)
    answer.finish()
    return answer.reasons(completion.order.candidates, cut_off=completion.cut_off)
