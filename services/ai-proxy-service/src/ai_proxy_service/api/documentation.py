"""What the OpenAPI document says of routes that decode their own bodies."""

from typing import Any

import msgspec

from ai_proxy_service.translation.openai_types import ChatRequest

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
    """Return the route's options for FastAPI."""
    return {
        "response_model": None,
        "summary": "Create a chat completion",
        "tags": ["chat"],
        "responses": {
            200: {
                "description": "A `chat.completion`, or `chat.completion.chunk` events",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
            **error_responses(),
        },
        "openapi_extra": {
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/ChatRequest"}}
                },
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
    _, components = msgspec.json.schema_components([ChatRequest], ref_template=COMPONENTS_PREFIX)
    return components
