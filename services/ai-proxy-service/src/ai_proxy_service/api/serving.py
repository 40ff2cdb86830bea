"""What surfaces that answer with completions share: orders, waiting, and clients that leave."""

import asyncio
import secrets
from collections.abc import Mapping
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ai_proxy_service.api.event_stream import disconnected
from ai_proxy_service.api.gateway import (
    Gateway,
    gateway_of,
    issued_key_of,
    key_use_of,
    note_refusal,
    principal_of,
    recording_of,
)
from ai_proxy_service.api.tracking import Tracker
from ai_proxy_service.core.completion import Completion
from ai_proxy_service.core.errors import InvalidRequestError, MediaFetchError, ModelNotFoundError
from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.core.interfaces import Media
from ai_proxy_service.core.models import resolve_model
from ai_proxy_service.core.money import usd_text
from ai_proxy_service.core.order import Order
from ai_proxy_service.core.price_book import PricedModel
from ai_proxy_service.core.relay import Relay
from ai_proxy_service.core.settlement import Settled
from ai_proxy_service.translation.errors import to_service_error
from ai_proxy_service.translation.finish import LENGTH
from ai_proxy_service.translation.generation import least_thinking
from ai_proxy_service.translation.google_options import google_options
from ai_proxy_service.translation.messages import lost_call_ids
from ai_proxy_service.translation.openai_types import ChatRequest
from ai_proxy_service.translation.request import (
    Surroundings,
    TranslatedChat,
    remote_urls,
    to_gemini,
)
from service_kit.request_id import current_request_id

OPENAI_VERSION = "2020-10-01"
# After so long without a word from Gemini the status is sent, so that nothing on the way takes the
# connection for dead; until then a failure still has a status of its own, which SDKs act on.
COMMIT_SECONDS = 10.0
# What the ledger takes of a charge's metadata has a bound.
END_USER_CHARACTERS_MAX = 128
# nginx's word for a client that has closed the connection; it never sees this.
_CLIENT_GONE = 499


def find_model(
    request: Request, requested: str, kind: Literal["chat", "embedding"] = "chat"
) -> PricedModel:
    """Return the requested model, with the price that this request is charged by.

    Raises:
        ModelNotFoundError: there is none of this kind, it has no price, or the key may not use it.
    """
    gateway = gateway_of(request)
    model = gateway.prices.find(resolve_model(requested, gateway.aliases))
    if model is None or model.price.kind != kind:
        raise ModelNotFoundError(requested)
    issued = issued_key_of(request)
    if issued is not None and not issued.may_use(model.name):
        note_refusal(request, issued, "model_not_allowed")
        raise ModelNotFoundError(requested)
    return model


def account_of(request: Request, user: str | None) -> str:
    """Return who pays: a configured key speaks for the operator, who may name the user.

    An issued key pays from its own account, whomever it names.

    Raises:
        InvalidRequestError: the name has characters that can't be printed.
    """
    account = user or principal_of(request).name
    if not account.isprintable():
        raise InvalidRequestError(
            "Invalid value for 'user': it has characters that can't be printed.", field="user"
        )
    issued = issued_key_of(request)
    return account if issued is None else issued.account


def end_user_of(request: Request, user: str | None) -> str | None:
    """Return whom the holder of an issued key asks for; for the record only."""
    if not user or issued_key_of(request) is None:
        return None
    return user[:END_USER_CHARACTERS_MAX]


async def translate(
    request: Request, chat: ChatRequest, model: PricedModel, account: str
) -> TranslatedChat:
    """Translate a chat request, with all that it names from outside.

    Raises:
        InvalidRequestError: it can't be translated, or a file can't be had.
        InsufficientCreditError, AccountClosedError: it names files, and nothing can be spent.
        BillingUnavailableError: it names files, and it is not known whether anything can.
    """
    gateway = gateway_of(request)
    lost = lost_call_ids(chat.messages or ())
    price = model.price
    if "service_tier" in gateway.gemini.unsupported:
        # What Gemini would not be told of must not be charged, either.
        price = msgspec.structs.replace(price, tiers={})
    around = Surroundings(
        price=price,
        fetched=await _fetch(request, gateway, chat, account),
        known=await gateway.calls.recall(account, lost) if lost else {},
        safety_threshold=gateway.safety_threshold,
    )
    return to_gemini(chat, model.name, around)


def left_out(gateway: Gateway, chat: ChatRequest) -> list[str]:
    """Return the parameters of a request that the Gemini client can't say."""
    if not gateway.gemini.unsupported:
        return []
    options = msgspec.to_builtins(google_options(chat))
    given = {f"google.{name}" for name, value in options.items() if value is not None}
    given |= {name for name in chat.__struct_fields__ if getattr(chat, name) is not None}
    return sorted(gateway.gemini.unsupported & given)


async def _fetch(
    request: Request, gateway: Gateway, chat: ChatRequest, account: str
) -> Mapping[str, Media]:
    urls = remote_urls(chat)
    if not urls:
        return {}
    # What they will cost is known once they are here; who has nothing is not fetched for.
    issued = issued_key_of(request)
    await gateway.quoter.ensure_spendable(account, None if issued is None else issued.name)
    try:
        return await gateway.media.fetch(urls, account)
    except MediaFetchError as error:
        error.field = urls.get(error.url, "messages")
        raise


def make_order(
    request: Request,
    chat: ChatRequest,
    translated: TranslatedChat,
    *,
    model: PricedModel,
    account: str,
    prefix: str,
) -> Order:
    """Return the order for a translated request; `prefix` begins the completion's id."""
    price = model.price
    limit = translated.max_output_tokens or price.max_output_tokens
    bound = translated.prompt_bound_tokens
    return Order(
        completion_id=f"{prefix}{secrets.token_hex(14)}",
        request_id=current_request_id(),
        account=account,
        key_name=principal_of(request).name,
        model=model.name,
        price=price,
        catalog_version=model.catalog_version,
        body=translated.body,
        prompt_bound_tokens=price.context_tokens if bound is None else bound,
        max_output_tokens=min(limit, price.max_output_tokens),
        least_thinking=least_thinking(chat, model.name),
        streamed=bool(chat.stream),
        without_signatures=translated.without_signatures if translated.signed else None,
        tier=translated.tier,
        lookups_pico=translated.lookups_pico,
        audible=translated.audible,
        input_may_grow=translated.input_may_grow,
        may_be_empty=bool(chat.stop),
        candidates=chat.n or 1,
        recording=recording_of(request),
        issued_key=issued_key_of(request),
        key_use=key_use_of(request),
        end_user=end_user_of(request, chat.user or chat.user_id),
    )


async def opened(
    request: Request, relay: Relay, order: Order, timeout_seconds: float | None
) -> asyncio.Task[Completion] | None:
    """Open an order's completion and wait for it.

    Returns:
        The completion on its way: there, if it is done, or else after the time-out. None if the
        client has left; then the completion has been handed over.

    Raises:
        ServiceError: it was refused or failed; nothing was charged.
    """
    opening = relay.start(order)
    gone = asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait(
            {opening, gone}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED
        )
    except BaseException:
        relay.leave(opening)
        raise
    finally:
        left = gone.done()
        gone.cancel()
    if opening.done():
        try:
            opening.result()
        except GeminiError as error:
            raise to_service_error(error) from error
    elif left:
        relay.leave(opening)
        return None
    return opening


def credit_headers(completion: Completion, reasons: Mapping[int, str]) -> dict[str, str]:
    """Return the header that tells of a whole answer that it is shorter for lack of credit."""
    ran_out = completion.ran_out(reached_limit=LENGTH in reasons.values())
    return {"x-credits-exhausted": "true"} if ran_out else {}


def client_gone() -> Response:
    """Return what is logged for a client that has left; nobody reads it."""
    return Response(status_code=_CLIENT_GONE)


def settled_response(body: bytes, settled: Settled, headers: Mapping[str, str]) -> Response:
    """Return a whole answer in JSON with what it cost."""
    credits_headers = {"x-credits-charged": usd_text(settled.charged_nanos)}
    if settled.available_nanos is not None:
        credits_headers["x-credits-available"] = usd_text(settled.available_nanos)
    return Response(
        body,
        media_type="application/json",
        headers={"openai-version": OPENAI_VERSION, **headers, **credits_headers},
    )


def ignored_header(ignored: list[str]) -> dict[str, str]:
    """Return the header that names parameters without effect, if there are any."""
    return {"x-proxy-ignored-params": ", ".join(ignored)} if ignored else {}


def answer_headers(
    tracker: Tracker, opening: asyncio.Task[Completion], ignored: list[str]
) -> dict[str, str]:
    """Return the headers that tell what OpenAI's body has no place for."""
    headers = {
        "openai-version": OPENAI_VERSION,
        "openai-processing-ms": str(round(tracker.elapsed_seconds * 1000)),
    }
    lowered = opening.result().lowered_max_tokens if opening.done() else None
    if lowered is not None:
        headers["x-credits-max-output-tokens"] = str(lowered)
    return {**headers, **ignored_header(ignored)}
