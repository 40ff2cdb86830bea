"""What the OpenAPI document says of routes that decode their own bodies."""

from typing import Any

import msgspec

from ai_proxy_service.translation.embeddings import EmbeddingRequest
from ai_proxy_service.translation.openai_types import ChatRequest
from ai_proxy_service.translation.text_completion import TextRequest

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
    400: "The request is wrong; `param` names the field",
    401: "No accepted API key",
    402: "The account can't pay",
    413: "The body is too large",
    429: "A rate limit is reached",
    500: "The server failed",
    502: "Gemini failed, or refused the gateway's key",
    503: "Gemini or the credits service is not available",
    504: "Gemini did not answer in time",
}
COMPONENTS_PREFIX = "#/components/schemas/{name}"


def chat_documentation() -> dict[str, Any]:
    """Return the options of the chat route for FastAPI."""
    answers = "A `chat.completion`, or `chat.completion.chunk` events"
    return _documentation("Create a chat completion", "chat", answers, ChatRequest, streams=True)


def completions_documentation() -> dict[str, Any]:
    """Return the options of the text completion route for FastAPI."""
    answers = "A `text_completion`, whole or as events"
    return _documentation("Create a completion", "completions", answers, TextRequest, streams=True)


def embeddings_documentation() -> dict[str, Any]:
    """Return the options of the embedding route for FastAPI."""
    answers = "A list of embeddings"
    return _documentation(
        "Create embeddings", "embeddings", answers, EmbeddingRequest, streams=False
    )


def _documentation(
    summary: str, tag: str, answers: str, body: type[msgspec.Struct], *, streams: bool
) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    reference = {"$ref": COMPONENTS_PREFIX.format(name=body.__name__)}
    return {
        "response_model": None,
        "summary": summary,
        "tags": [tag],
        "responses": {200: {"description": answers, "content": content}, **error_responses()},
        "openapi_extra": {
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": reference}},
            }
        },
    }


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of error answers; of all of them if none is named."""
    return {
        status: {
            "description": text,
            "content": {"application/json": {"schema": _ERROR}},
        }
        for status, text in _STATUSES.items()
        if not statuses or status in statuses
    }


def component_schemas() -> dict[str, Any]:
    """Return the schemas of the bodies that msgspec decodes."""
    _, components = msgspec.json.schema_components(
        [ChatRequest, TextRequest, EmbeddingRequest], ref_template=COMPONENTS_PREFIX
    )
    return components
