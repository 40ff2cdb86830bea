"""Google's own options in an OpenAI request: `extra_body.google`, or `google` on top.

https://ai.google.dev/gemini-api/docs/openai#extra-body. Names may be written in snake or in
camel case, as Google's examples do both.
"""

import re
from typing import Any, Literal

import msgspec

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.translation.nested import convert_at, google_member
from ai_proxy_service.translation.openai_types import ChatRequest

_UPPER = re.compile(r"(?<!^)([A-Z])")
_PREFIXES = ("THINKING_LEVEL_", "MEDIA_RESOLUTION_")
# Google's own tools, by their member in `tools`.
SERVER_TOOLS = {
    "google_search": "googleSearch",
    "code_execution": "codeExecution",
    "url_context": "urlContext",
}
Threshold = Literal[
    "OFF", "BLOCK_NONE", "BLOCK_ONLY_HIGH", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_LOW_AND_ABOVE"
]
SAFETY_CATEGORIES = (
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)


class ThinkingOptions(msgspec.Struct, forbid_unknown_fields=True):
    """How a model is to think, in Gemini's own terms."""

    thinking_budget: int | None = None
    thinking_level: Literal["MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"] | None = None
    include_thoughts: bool | None = None


class SafetySetting(msgspec.Struct, forbid_unknown_fields=True):
    """From which probability on a kind of harm is blocked."""

    category: str
    threshold: Threshold


class GoogleOptions(msgspec.Struct, forbid_unknown_fields=True):
    """All options under `google`."""

    thinking_config: ThinkingOptions | None = None
    cached_content: str | None = None
    safety_settings: list[SafetySetting] | None = None
    tools: list[dict[str, Any]] | None = None
    media_resolution: Literal["LOW", "MEDIUM", "HIGH"] | None = None
    top_k: int | None = None


def google_options(chat: ChatRequest) -> GoogleOptions:
    """Read the options, from either place.

    Raises:
        InvalidRequestError: an unknown name, a wrong value, or options in both places.
    """
    where, given = google_member(chat.google, chat.extra_body)
    if given is None:
        return GoogleOptions()
    try:
        return convert_at(where, _snake(given), GoogleOptions)
    except RecursionError:
        raise InvalidRequestError(
            f"Invalid value for '{where}': it is nested too deeply.", field=where
        ) from None


def server_tools(options: GoogleOptions) -> list[dict[str, Any]]:
    """Return Google's own tools that were asked for, in Gemini's form.

    Raises:
        InvalidRequestError: one of them is not known.
    """
    tools: list[dict[str, Any]] = []
    for index, tool in enumerate(options.tools or ()):
        unknown = [name for name in tool if name not in SERVER_TOOLS]
        if unknown or not tool:
            raise InvalidRequestError(
                f"Invalid tool. Supported are: {', '.join(SERVER_TOOLS)}.",
                field=f"google.tools[{index}]",
            )
        # What such a tool takes is for Gemini to check.
        tools += [{SERVER_TOOLS[name]: value or {}} for name, value in tool.items()]
    return tools


def _snake(value: Any) -> Any:
    """Return the options with snake-case names; tools' own options stay as they are."""
    if isinstance(value, list):
        return [_snake(item) for item in value]
    if not isinstance(value, dict):
        return value
    renamed: dict[str, Any] = {}
    for name, item in value.items():
        snake = _UPPER.sub(r"_\1", name).lower()
        if snake in {"thinking_level", "media_resolution"} and isinstance(item, str):
            renamed[snake] = _bare(item)
        elif snake == "tools":
            renamed[snake] = (
                [_tool_names(tool) for tool in item] if isinstance(item, list) else item
            )
        elif item is not None:
            renamed[snake] = _snake(item)
    return renamed


def _tool_names(tool: Any) -> Any:
    if not isinstance(tool, dict):
        return tool
    return {_UPPER.sub(r"_\1", name).lower(): value for name, value in tool.items()}


def _bare(name: str) -> str:
    name = name.upper()
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
