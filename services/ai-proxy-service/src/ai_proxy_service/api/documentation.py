"""What the OpenAPI document says of routes that decode their own bodies."""

from collections.abc import Mapping
from typing import Any

import msgspec

from ai_proxy_service.api.documented_headers import (
    CREDITS,
    IGNORED,
    REPLAYED,
    Headers,
    answer_headers,
)
from ai_proxy_service.api.quote_body import QuoteBody
from ai_proxy_service.core.credits import Credits
from ai_proxy_service.core.errors import IDEMPOTENCY_KEY
from ai_proxy_service.core.order import PROMPTS_MAX
from ai_proxy_service.core.receipts import Receipt
from ai_proxy_service.translation.checks import SERVICE_TIERS, STOPS_MAX
from ai_proxy_service.translation.embeddings import INPUTS_MAX, EmbeddingRequest
from ai_proxy_service.translation.openai_types import ChatRequest
from ai_proxy_service.translation.text_completion import TextRequest
from ai_proxy_service.translation.thinking import EFFORTS

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_STATUSES = {
    400: "The request is wrong; `param` names the field. Or it is no HTTP",
    401: "No accepted API key",
    402: "The account can't pay",
    403: "The account is frozen or closed, or the key lacks the scope",
    404: "There is no such model, receipt or account",
    408: "The request did not arrive in time",
    409: "The answer under the `Idempotency-Key` was charged, but can't be shown again",
    413: "The body is too large",
    414: "The URL is too long",
    429: "A rate limit is reached",
    431: "The headers are too large, or too many",
    500: "The server failed",
    502: "Gemini failed, or refused the gateway's key",
    503: "Gemini, the credits service or the usage log is not available",
    504: "Gemini did not answer in time",
}
_NOT_OF_POSTS = frozenset({404, 409})
# Whatever is asked for.
_ALWAYS = (400, 408, 413, 414, 431, 500)
_KEY_PARAMETER = {
    "name": IDEMPOTENCY_KEY,
    "in": "header",
    "description": "A repeat with the same key and body within a day gets the first request's "
    "answer, with `idempotency-replayed: true`, and is charged once. Another body under the same "
    "key is refused with 400. Keys belong to the API key.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[ -~]*$",
    },
}
COMPONENTS_PREFIX = "#/components/schemas/{name}"
_TEXTS = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
# What is checked after decoding, or refused although its type is right: what a client may send.
_NARROWED: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "ChatRequest": {
        "reasoning_effort": {"enum": [*EFFORTS, None]},
        "service_tier": {"enum": [*SERVICE_TIERS, None]},
        "stop": {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "maxItems": STOPS_MAX},
                {"type": "null"},
            ]
        },
        "logit_bias": {"enum": [{}, None]},
    },
    "Reasoning": {"effort": {"enum": [*EFFORTS, None]}},
    "ResponseFormat": {"type": {"enum": ["text", "json_object", "json_schema"]}},
    "TextRequest": {
        "prompt": {
            "anyOf": [{"type": "string", "minLength": 1}, {**_TEXTS, "maxItems": PROMPTS_MAX}]
        },
        "best_of": {"enum": [1, None]},
        "echo": {"enum": [False, None]},
        "suffix": {"enum": ["", None]},
        "logit_bias": {"enum": [{}, None]},
    },
    "EmbeddingRequest": {
        "input": {"anyOf": [{"type": "string", "minLength": 1}, {**_TEXTS, "maxItems": INPUTS_MAX}]}
    },
}


def chat_documentation() -> dict[str, Any]:
    """Return the options of the chat route for FastAPI."""
    answers = "A `chat.completion`, or `chat.completion.chunk` events"
    return _with_key(
        _documentation("Create a chat completion", "chat", answers, ChatRequest, streams=True)
    )


def completions_documentation() -> dict[str, Any]:
    """Return the options of the text completion route for FastAPI."""
    answers = "A `text_completion`, whole or as events"
    return _with_key(
        _documentation("Create a completion", "completions", answers, TextRequest, streams=True)
    )


def embeddings_documentation() -> dict[str, Any]:
    """Return the options of the embedding route for FastAPI."""
    answers = "A list of embeddings"
    return _documentation(
        "Create embeddings", "embeddings", answers, EmbeddingRequest, streams=False
    )


def quote_documentation() -> dict[str, Any]:
    """Return the options of the quote route for FastAPI."""
    answers = "What the completion would cost, and whether it would start: also where it would not"
    documented = _documentation(
        "Quote a chat completion", "quotes", answers, ChatRequest, streams=False
    )
    answer = {"$ref": COMPONENTS_PREFIX.format(name=QuoteBody.__name__)}
    documented["responses"][200]["content"]["application/json"]["schema"] = answer
    documented["responses"][200]["headers"] = answer_headers(200, IGNORED)
    del documented["responses"][402]
    documented["openapi_extra"]["parameters"] = [
        {
            "name": "count",
            "in": "query",
            "description": "Have Gemini count the prompt. Without, it does where the credit does "
            "not reach for the bound.",
            "schema": {"type": "boolean", "default": False},
        }
    ]
    return documented


def receipt_documentation() -> dict[str, Any]:
    """Return the options of the receipt route for FastAPI."""
    answer = {"$ref": COMPONENTS_PREFIX.format(name=Receipt.__name__)}
    return {
        "response_model": None,
        "summary": "Retrieve a receipt",
        "tags": ["receipts"],
        "responses": {
            200: {
                "description": "What the answer cost",
                "content": {"application/json": {"schema": answer}},
                "headers": answer_headers(200),
            },
            **error_responses(401, 403, 404, 429, 503),
        },
    }


def credits_documentation() -> dict[str, Any]:
    """Return the options of the credits route for FastAPI."""
    answer = {"$ref": COMPONENTS_PREFIX.format(name=Credits.__name__)}
    return {
        "response_model": None,
        "summary": "Retrieve an account's credit",
        "tags": ["credits"],
        "responses": {
            200: {
                "description": "What the account has, and what spend limits leave of it",
                "content": {"application/json": {"schema": answer}},
                "headers": answer_headers(200),
            },
            **error_responses(400, 401, 403, 404, 429, 503),
        },
        "openapi_extra": {
            "parameters": [
                {
                    "name": "user",
                    "in": "query",
                    "description": "Whose account: for the operator's own keys, which else see "
                    "the one of their name. An issued key always sees its own.",
                    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
                }
            ]
        },
    }


def _documentation(
    summary: str, tag: str, answers: str, body: type[msgspec.Struct], *, streams: bool
) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if streams:
        # Each event is an object; OpenAPI 3.1 has no word for that.
        content["text/event-stream"] = {}
    reference = {"$ref": COMPONENTS_PREFIX.format(name=body.__name__)}
    return {
        "response_model": None,
        "summary": summary,
        "tags": [tag],
        "responses": {200: _answer(answers, content, CREDITS), **error_responses()},
        "openapi_extra": {
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": reference}},
            }
        },
    }


def _with_key(documented: dict[str, Any]) -> dict[str, Any]:
    """Add what a route has that answers an idempotency key once."""
    documented["openapi_extra"]["parameters"] = [_KEY_PARAMETER]
    documented["responses"] |= error_responses(409)
    documented["responses"][200]["headers"] |= REPLAYED
    return documented


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of error answers; of all that a POST has if none is named.

    With those that every request may get.
    """
    content = {"application/json": {"schema": _ERROR}}
    wanted = {*_ALWAYS, *(statuses or _STATUSES.keys() - _NOT_OF_POSTS)}
    named: dict[int | str, dict[str, Any]] = {
        status: _answer(text, content, {}, status)
        for status, text in _STATUSES.items()
        if status in wanted
    }
    # Without this FastAPI would promise a 422 in a form of its own.
    return {**named, "default": _answer("Another failure", content, {})}


def _answer(
    description: str, content: Mapping[str, Any], headers: Headers, status: int = 200
) -> dict[str, Any]:
    return {
        "description": description,
        "content": content,
        "headers": answer_headers(status, headers),
    }


def operations_documentation(
    answers: str, *media_types: str, further: Mapping[int, str] | None = None
) -> dict[str, Any]:
    """Return the options of a route that operators ask without a key.

    Args:
        answers: what it tells.
        media_types: of the answer, beside JSON.
        further: further statuses in the form of the answer, and what they mean.
    """
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    answer = content | {name: {"schema": {"type": "string"}} for name in media_types}
    return {
        "response_model": None,
        "responses": {
            **error_responses(*_ALWAYS),
            200: _answer(answers, answer, {}),
            **{status: _answer(text, content, {}) for status, text in (further or {}).items()},
        },
        "openapi_extra": {"security": []},
    }


def component_schemas() -> dict[str, Any]:
    """Return the schemas of the bodies that msgspec decodes."""
    _, components = msgspec.json.schema_components(
        [ChatRequest, TextRequest, EmbeddingRequest, QuoteBody, Receipt, Credits],
        ref_template=COMPONENTS_PREFIX,
    )
    for name, narrowed in _NARROWED.items():
        components[name]["properties"].update(narrowed)
    components["TextRequest"]["required"].append("prompt")
    components["ChatRequest"]["anyOf"] = [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
        for name in ("messages", "input")
    ]
    return components
