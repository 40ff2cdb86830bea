"""A `generateContent` body as the message of Google's retired SDK.

The SDK's message types are those of early 2025. What they lack is either guidance that the
answer can do without, which is left out, or changes the answer, which is refused; docs/decisions
says which is which. https://ai.google.dev/api/generate-content
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from google.generativeai import protos
from google.protobuf import json_format

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.core.gemini import GenerateContentBody
from ai_proxy_service.core.interfaces import EmbedOptions
from ai_proxy_service.services.gemini_sdk_schema import to_sdk_schema

LEFT_OUT = frozenset(
    {
        *("seed", "service_tier", "reasoning_effort", "reasoning"),
        *("google.thinking_config", "google.media_resolution"),
    }
)
"""The parameters that are never sent, by their OpenAI names."""

# Guidance; by their names in the body.
_LEFT_OUT_OF_BODY = frozenset({"serviceTier"})
_LEFT_OUT_OF_CONFIG = frozenset({"seed", "thinkingConfig", "mediaResolution"})
_LEFT_OUT_OF_PART = frozenset({"thought", "thoughtSignature", "mediaResolution"})
# Where a member of the body comes from, for errors.
_FIELDS = {
    "contents": "messages",
    "systemInstruction": "messages",
    "tools": "tools",
    "toolConfig": "tool_choice",
    "generationConfig": "google",
    "responseModalities": "modalities",
    "speechConfig": "audio",
    "candidateCount": "n",
    "stopSequences": "stop",
    "maxOutputTokens": "max_completion_tokens",
    "topK": "top_k",
    "responseMimeType": "response_format",
    "responseSchema": "response_format",
}
_GENERATION = re.compile(r"gemini-(\d+)")
_SIGNING_SINCE = 3
# The SDK carries the numbers of calls and results as doubles, which are exact up to here.
_EXACT_MAX = 2**53
# The SDK writes JSON by recursion, several calls a level.
_DEPTH_MAX = 64
_INT32_LIMIT = 2**31


def to_sdk_request(model: str, body: GenerateContentBody) -> protos.GenerateContentRequest:
    """Convert a request.

    Args:
        model: id without ``models/``.
        body: as the REST API takes it.

    Raises:
        InvalidRequestError: the SDK can't say it, and the answer would be another without it.
    """
    _check_signatures(model, body["contents"])
    message = protos.GenerateContentRequest.pb()(model=f"models/{model}")
    for name, value in body.items():
        if name in _LEFT_OUT_OF_BODY or value is None:
            continue
        try:
            _read(name, value, message)
        except json_format.ParseError as error:
            raise _unsupported(f"something in {name!r}", _FIELDS.get(name, "google")) from error
    return protos.GenerateContentRequest.wrap(message)


def check_embed_options(options: EmbedOptions) -> None:
    """Check what the SDK would raise errors of its own for.

    Raises:
        InvalidRequestError: the SDK can't say it.
    """
    known = protos.TaskType.__members__
    if options.task_type is not None and options.task_type.upper() not in known:
        raise _unsupported(f"the task type {options.task_type[:64]!r}", "google")
    if options.dimensions is not None and options.dimensions >= _INT32_LIMIT:
        raise InvalidRequestError("There are not so many dimensions.", field="dimensions")


def _read(name: str, value: Any, message: Any) -> None:
    """Add a member of the body to the message.

    Raises:
        json_format.ParseError: the message has no place for something in it.
    """
    match name:
        case "contents":
            converted: Any = [_content(content) for content in value]
            converted = [content for content in converted if content["parts"]]
        case "systemInstruction":
            converted = _content(value)
        case "tools":
            converted = [_tool(tool) for tool in value]
        case "toolConfig":
            converted = _tool_config(value)
        case "generationConfig":
            converted = _config(value)
        case _:
            converted = value
    json_format.ParseDict({name: converted}, message)


def _unsupported(what: str, field: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"The gateway uses Google's old SDK, which does not support {what}.",
        code="unsupported_parameter",
        field=field,
    )


def _check_signatures(model: str, contents: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a tool loop with a model that wants its signatures back in it.

    https://ai.google.dev/gemini-api/docs/thought-signatures
    """
    generation = _GENERATION.match(model)
    if generation is None or int(generation[1]) < _SIGNING_SINCE:
        return
    for content in reversed(contents):
        parts = content["parts"]
        if content.get("role") == "model":
            if any("functionCall" in part for part in parts):
                raise _unsupported(
                    "the thought signatures that Gemini 3 asks for once tools were called",
                    "messages",
                )
        elif any("functionResponse" not in part for part in parts):
            return


def _content(content: Mapping[str, Any]) -> dict[str, Any]:
    parts = [converted for part in content["parts"] if (converted := _part(part))]
    return {**content, "parts": parts}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part.get("thought"):
        return {}  # a summary of old thinking; the SDK would make it part of what was said
    kept = {name: value for name, value in part.items() if name not in _LEFT_OUT_OF_PART}
    call, result = kept.get("functionCall"), kept.get("functionResponse")
    if call is not None:
        kept["functionCall"] = {**call, "args": _exact(call.get("args") or {})}
    if result is not None:
        if result.get("parts"):
            raise _unsupported("an image or file in the result of a tool", "messages")
        kept["functionResponse"] = {**result, "response": _exact(result.get("response") or {})}
    return kept


def _exact(value: Any, depth: int = 0) -> Any:
    """Make texts of whole numbers that a double can't hold."""
    if depth > _DEPTH_MAX:
        raise _unsupported("tool calls and results that nest so deep", "messages")
    if isinstance(value, dict):
        return {name: _exact(member, depth + 1) for name, member in value.items()}
    if isinstance(value, list):
        return [_exact(member, depth + 1) for member in value]
    is_large = isinstance(value, int) and not -_EXACT_MAX <= value <= _EXACT_MAX
    return str(value) if is_large else value


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if "urlContext" in tool:
        raise _unsupported("url_context", "google")
    converted = dict(tool)
    if "functionDeclarations" in tool:
        converted["functionDeclarations"] = [_function(f) for f in tool["functionDeclarations"]]
    return converted


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    converted = dict(function)
    given = converted.pop("parametersJsonSchema", None) or converted.pop("parameters", None)
    if given:
        schema = to_sdk_schema(given, "tools")
        # Gemini refuses an object without properties here.
        if schema["type"] != "OBJECT" or schema.get("properties"):
            converted["parameters"] = schema
    return converted


def _tool_config(config: Mapping[str, Any]) -> dict[str, Any]:
    if config.get("includeServerSideToolInvocations"):
        raise _unsupported("Google's own tools beside functions", "tools")
    converted = dict(config)
    calling = config.get("functionCallingConfig") or {}
    if calling.get("mode") == "VALIDATED":
        # The same, but for the promise that calls fit their schema.
        converted["functionCallingConfig"] = {**calling, "mode": "AUTO"}
    return converted


def _config(config: Mapping[str, Any]) -> dict[str, Any]:
    converted = {
        name: value
        for name, value in config.items()
        if name not in _LEFT_OUT_OF_CONFIG and value is not None
    }
    schema = converted.pop("responseJsonSchema", None) or converted.get("responseSchema")
    if schema is not None:
        converted["responseSchema"] = to_sdk_schema(schema, "response_format")
    for name, value in converted.items():
        # Each by itself, so that the error can say which one it is.
        try:
            json_format.ParseDict({name: value}, protos.GenerationConfig.pb()())
        except json_format.ParseError as error:
            raise _unsupported(f"{name!r} as it is", _FIELDS.get(name, "google")) from error
    return converted
