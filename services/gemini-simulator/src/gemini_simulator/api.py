"""Gemini's own endpoints: who may call, which model, what is ordered, and the answer."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from gemini_simulator.answer import build_answer
from gemini_simulator.behaviour import (
    Behaviour,
    last_user_text,
    make_behaviour,
    parse_directives,
)
from gemini_simulator.checks import check_request
from gemini_simulator.delivery import Delivery
from gemini_simulator.embeddings import embed, embed_batch
from gemini_simulator.errors import (
    ApiError,
    invalid_argument,
    invalid_key,
    make_error,
    missing_key,
    unknown_model,
    unsupported_credentials,
)
from gemini_simulator.exchange import Exchange
from gemini_simulator.messages import (
    BatchEmbedContentsRequest,
    CountTokensRequest,
    EmbedContentRequest,
    GenerateContentRequest,
)
from gemini_simulator.models import MODELS, Model
from gemini_simulator.prompt import count_contents, count_prompt, details
from gemini_simulator.proto_json import read_message
from gemini_simulator.settings import Settings
from gemini_simulator.state import Memory
from gemini_simulator.wire import Encoder

_DEFAULT_PAGE_SIZE = 50
_MAX_PAGE_SIZE = 1000
# Which method of the list a request needs: batches and streams are not named there.
_LISTED_METHODS = {
    "generateContent": "generateContent",
    "streamGenerateContent": "generateContent",
    "countTokens": "countTokens",
    "embedContent": "embedContent",
    "batchEmbedContents": "embedContent",
}


class GeminiApi:
    """ASGI app for everything under `/{version}/models`."""

    def __init__(self, settings: Settings, memory: Memory, version: str) -> None:
        self._version = version
        self._settings = settings
        self._memory = memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(scope, receive, send, self._memory.recorder)
        try:
            body = await exchange.read_body(self._settings.simulator_max_body_bytes)
        except ApiError as error:
            await exchange.reply(error.code, msgspec.json.encode(error.body()), state="refused")
            self._memory.recorder.close(exchange.entry)
            return
        except asyncio.CancelledError:
            self._memory.recorder.close(exchange.entry)
            return
        exchange.entry.body = _readable(body)
        await exchange.run(self._answer(exchange, scope["path_params"], body))

    async def _answer(self, exchange: Exchange, path: Mapping[str, str], body: bytes) -> None:
        name, _, method = path.get("model", "").partition(":")
        system = "{} {}".format(exchange.query.get("alt", ""), exchange.query.get("$alt", ""))
        sse = "sse" in system and method == "streamGenerateContent"
        encoder = Encoder(
            sse=sse,
            array=method == "streamGenerateContent" and not sse,
            enum_numbers="enum-encoding=int" in system,
        )
        delivery = Delivery(exchange, encoder, self._memory, self._settings)
        try:
            self._check_key(exchange)
            if exchange.entry.method == "GET":
                await self._describe(exchange, path, encoder, delivery)
                return
            orders = self._memory.faults.take(name, method)
            await self._call(delivery, name, method, body, orders)
        except ApiError as error:
            await delivery.refuse(error)

    def _check_key(self, exchange: Exchange) -> None:
        if exchange.key is None:
            if "authorization" in exchange.headers:
                raise unsupported_credentials()
            raise missing_key()
        if self._settings.is_invalid_key(exchange.key):
            raise invalid_key()

    async def _describe(
        self, exchange: Exchange, path: Mapping[str, str], encoder: Encoder, delivery: Delivery
    ) -> None:
        name = path.get("model", "")
        behaviour = make_behaviour(self._memory.faults.take(name, "get" if name else "list"))
        if await delivery.is_spoilt(behaviour, name):
            return
        if not name:
            described = _page(exchange.query)
        elif name in MODELS:
            described = MODELS[name].wire()
        else:
            raise unknown_model(name, self._version, "get")
        await exchange.reply(200, encoder.whole(described))

    async def _call(
        self,
        delivery: Delivery,
        name: str,
        method: str,
        body: bytes,
        orders: dict[str, Any],
    ) -> None:
        behaviour = make_behaviour(orders)
        if behaviour.refuses and await delivery.is_spoilt(behaviour, name):
            return
        model = MODELS.get(name)
        if model is None or _LISTED_METHODS.get(method) not in model.methods:
            listed = _LISTED_METHODS.get(method, method)
            raise unknown_model(name, self._version, listed)
        if _LISTED_METHODS[method] == "generateContent":
            await self._generate(delivery, model, body, orders)
            return
        if await delivery.is_spoilt(behaviour, name):
            return
        if method == "countTokens":
            answer = _count(read_message(CountTokensRequest, body))
        elif method == "embedContent":
            answer = embed(read_message(EmbedContentRequest, body), model)
        else:
            answer = embed_batch(read_message(BatchEmbedContentsRequest, body), model)
        await delivery.send_whole(answer, behaviour)

    async def _generate(
        self, delivery: Delivery, model: Model, body: bytes, orders: dict[str, Any]
    ) -> None:
        request = read_message(GenerateContentRequest, body)
        behaviour = make_behaviour(parse_directives(last_user_text(request)) | orders)
        if await delivery.is_spoilt(behaviour, model.name):
            return
        check_request(request, model, count_prompt(request).total())
        answer = build_answer(request, model, behaviour, delivery.response_id(body))
        late_error = _late_error(behaviour, model.name)
        await delivery.send_answer(answer, behaviour, late_error)


def _late_error(behaviour: Behaviour, model: str) -> ApiError | None:
    if behaviour.error_after is None:
        return None
    code = behaviour.status or (None if behaviour.error else 503)
    return make_error(
        name=behaviour.error,
        code=code,
        message=behaviour.status_message,
        model=model,
        retry_delay_seconds=behaviour.retry_delay,
    )


def _count(request: CountTokensRequest) -> dict[str, Any]:
    inner = request.generate_content_request
    if inner is not None and request.contents:
        raise invalid_argument("Only one of contents and generate_content_request may be set.")
    if inner is None and not request.contents:
        raise invalid_argument("* CountTokensRequest.contents: contents is not specified\n")
    count = count_contents(request.contents) if inner is None else count_prompt(inner)
    return {"totalTokens": count.total(), "promptTokensDetails": details(count)}


def _page(query: Mapping[str, str]) -> dict[str, Any]:
    """Return one page of the model list."""
    try:
        size = int(query.get("pageSize") or _DEFAULT_PAGE_SIZE)
        start = int(base64.urlsafe_b64decode(query.get("pageToken", "")) or b"0")
    except ValueError as error:
        raise invalid_argument("Invalid page size or page token.") from error
    if size < 0:
        raise invalid_argument("* ListModelsRequest.page_size: must not be negative.\n")
    size = min(size or _DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE)
    models = list(MODELS.values())
    page: dict[str, Any] = {"models": [model.wire() for model in models[start : start + size]]}
    if start + size < len(models):
        page["nextPageToken"] = base64.urlsafe_b64encode(str(start + size).encode()).decode()
    return page


def _readable(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode(errors="replace")
