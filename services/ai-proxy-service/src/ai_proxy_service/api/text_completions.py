"""`POST /v1/completions`, the form before there was chat, whole and streamed."""

import time
from dataclasses import replace
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ai_proxy_service.api.documentation import completions_documentation
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
    make_order,
    opened,
    settled_response,
    translate,
)
from ai_proxy_service.api.tracking import Tracker
from ai_proxy_service.core.order import Order, prompt_id
from ai_proxy_service.core.settlement import Settled
from ai_proxy_service.core.usage import TokenUsage, total_usage
from ai_proxy_service.translation.answer import AnswerState
from ai_proxy_service.translation.request import ignored_names
from ai_proxy_service.translation.text_completion import (
    TextRequest,
    TextStreamTranslator,
    as_chat,
    parse_text,
    prompts_of,
    text_choices,
    text_completion,
)
from ai_proxy_service.translation.usage import openai_usage

router = APIRouter()


@router.post("/completions", **completions_documentation())
async def create_completion(request: Request) -> Response:
    """Continue one prompt or several."""
    return await answer_once(request, _answer, "completions")


async def _answer(request: Request) -> Response:
    gateway = gateway_of(request)
    tracker = Tracker(gateway.metrics)
    with tracker.failures():
        return await _complete(request, gateway, tracker)


async def _complete(request: Request, gateway: Gateway, tracker: Tracker) -> Response:
    raw = await request.body()
    wanted = parse_text(raw)
    orders, ignored = await _orders(request, wanted)
    ignored += ignored_names(raw, TextRequest)
    tracker.model = orders[0].model
    if wanted.stream:
        return await _streamed(
            request, gateway, wanted, orders[0], tracker=tracker, ignored=ignored
        )
    return await _whole(request, gateway, wanted, orders, tracker=tracker, ignored=ignored)


async def _orders(request: Request, wanted: TextRequest) -> tuple[list[Order], list[str]]:
    """Return an order for each prompt, and the names of parameters that the model ignores."""
    model = find_model(request, wanted.model)
    account = account_of(request, wanted.user or wanted.user_id)
    orders: list[Order] = []
    ignored: list[str] = []
    for prompt in prompts_of(wanted):
        chat = as_chat(wanted, prompt)
        translated = await translate(request, chat, model, account)
        ignored = translated.ignored
        order = make_order(request, chat, translated, model=model, account=account, prefix="cmpl-")
        if orders:
            # Its charge is its own; the client knows the answer by the first one's id.
            order = replace(order, completion_id=prompt_id(orders[0].completion_id, len(orders)))
        orders.append(order)
    return orders, ignored


async def _streamed(
    request: Request,
    gateway: Gateway,
    wanted: TextRequest,
    order: Order,
    *,
    tracker: Tracker,
    ignored: list[str],
) -> Response:
    opening = await opened(request, gateway.relay, order, COMMIT_SECONDS)
    if opening is None:
        tracker.finish(successful=False)
        return client_gone()
    options = wanted.stream_options
    return EventStream(
        opening,
        relay=gateway.relay,
        translator=TextStreamTranslator(
            completion_id=order.completion_id,
            created=int(time.time()),
            model=wanted.model,
            include_usage=bool(options and options.include_usage),
            may_be_empty=order.may_be_empty,
        ),
        choices=order.candidates,
        remember=_nothing_to_remember,
        tracker=tracker,
        headers=answer_headers(tracker, opening, ignored),
    )


async def _nothing_to_remember(_answer: AnswerState) -> None:
    """There are no tools here."""


async def _whole(
    request: Request,
    gateway: Gateway,
    wanted: TextRequest,
    orders: list[Order],
    *,
    tracker: Tracker,
    ignored: list[str],
) -> Response:
    """Answer the prompts one after the other, each charged when it is done."""
    choices: list[dict[str, Any]] = []
    usages: list[TokenUsage] = []
    charged_nanos, left_nanos = 0, None
    headers: dict[str, str] = {}
    of_credit: dict[str, str] = {}
    for order in orders:
        opening = await opened(request, gateway.relay, order, None)
        if opening is None:
            tracker.finish(successful=False)
            return client_gone()
        completion = opening.result()
        answer = AnswerState(may_be_empty=order.may_be_empty)
        try:
            for chunk in completion.collected:
                answer.add(chunk)
            reasons = answer.reasons(order.candidates, cut_off=completion.cut_off)
        finally:
            settled = await completion.settle()
        choices += text_choices(answer, reasons, len(choices))
        usages.append(completion.usage or TokenUsage())
        charged_nanos += settled.charged_nanos
        left_nanos = settled.available_nanos
        headers = answer_headers(tracker, opening, ignored)
        of_credit |= credit_headers(completion, reasons)
    body = text_completion(
        choices,
        completion_id=orders[0].completion_id,
        created=int(time.time()),
        model=wanted.model,
        usage=openai_usage(total_usage(usages), charged_nanos),
    )
    tracker.finish(successful=True)
    settled = Settled(charged_nanos, left_nanos)
    return settled_response(msgspec.json.encode(body), settled, headers | of_credit)
