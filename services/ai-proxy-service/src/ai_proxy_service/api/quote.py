"""`POST /v1/quote`: what a chat completion would cost, and whether the account could pay."""

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ai_proxy_service.api.documentation import quote_documentation
from ai_proxy_service.api.gateway import gateway_of
from ai_proxy_service.api.quote_body import quote_body
from ai_proxy_service.api.serving import (
    account_of,
    find_model,
    ignored_header,
    left_out,
    make_order,
    translate,
)
from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.translation.errors import to_service_error
from ai_proxy_service.translation.request import ignored_names, parse_chat

router = APIRouter()
_COUNTS = {None: False, "false": False, "true": True}


@router.post("/quote", **quote_documentation())
async def create_quote(request: Request) -> Response:
    """Tell the costs of a chat request. Nothing is held or charged, and nothing is generated."""
    gateway = gateway_of(request)
    raw = await request.body()
    count = _wants_count(request)
    chat = parse_chat(raw)
    model = find_model(request, chat.model)
    account = account_of(request, chat.user or chat.user_id)
    translated = await translate(request, chat, model, account)
    order = make_order(request, chat, translated, model=model, account=account, prefix="quote-")
    try:
        quote = await gateway.quoter.quote(order, count=count)
    except GeminiError as error:
        raise to_service_error(error) from error
    ignored = [*translated.ignored, *left_out(gateway, chat), *ignored_names(raw)]
    return Response(
        msgspec.json.encode(quote_body(quote)),
        media_type="application/json",
        headers=ignored_header(ignored),
    )


def _wants_count(request: Request) -> bool:
    asked = request.query_params.get("count")
    if asked not in _COUNTS:
        raise InvalidRequestError("Invalid value for 'count': it is true or false.", field="count")
    return _COUNTS[asked]
