"""Tool calls in answers, in histories, and in what reached Gemini."""

from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionMessageToolCall


def calls_of(answer: ChatCompletion) -> list[ChatCompletionMessageToolCall]:
    """Return the function calls of an answer."""
    calls = answer.choices[0].message.tool_calls or []
    return [call for call in calls if isinstance(call, ChatCompletionMessageToolCall)]


def call_message(*calls: tuple[str, str], arguments: str = "{}") -> dict[str, Any]:
    """Return the assistant message that calls functions, given as pairs of id and name."""
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name in calls
        ],
    }


def parts_of(body: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return the parts of a request to Gemini that have a member, in their order."""
    return [part for content in body["contents"] for part in content["parts"] if kind in part]
