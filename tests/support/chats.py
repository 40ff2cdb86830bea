"""Chats through the translation: OpenAI requests in, and Gemini's chunks, in JSON, back."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from ai_proxy_service.core.gemini import GenerateContentResponse
from ai_proxy_service.core.interfaces import Media
from ai_proxy_service.core.usage import UsageTally
from ai_proxy_service.services.gemini_wire import decode_answer
from ai_proxy_service.translation.answer import AnswerState
from ai_proxy_service.translation.google_options import Threshold
from ai_proxy_service.translation.remembered import Remembered
from ai_proxy_service.translation.request import (
    Surroundings,
    TranslatedChat,
    parse_chat,
    to_gemini,
)
from ai_proxy_service.translation.response import chat_completion
from ai_proxy_service.translation.stream import ChatStreamTranslator
from ai_proxy_service.translation.tools import Toolbox
from service_kit.errors import ServiceError
from support.orders import CATALOG

Json = dict[str, Any]
USER: Json = {"role": "user", "content": "hi"}
FLASH_2 = "gemini-2.5-flash"
FLASH_3 = "gemini-3-flash-preview"
PRICES = CATALOG.models
# What every answer is said to have cost.
COST_NANOS = 12_500


def translate(
    model: str = FLASH_2,
    *,
    known: Mapping[str, Remembered] | None = None,
    fetched: Mapping[str, Media] | None = None,
    safety_threshold: Threshold | None = None,
    **fields: Any,
) -> TranslatedChat:
    """Translate a request for a model; without messages or input, the user says hi."""
    body = {"model": model, **({} if "input" in fields else {"messages": [USER]}), **fields}
    around = Surroundings(
        price=PRICES.get(model, PRICES[FLASH_2]),
        fetched=fetched or {},
        known={call_id: item.encode() for call_id, item in (known or {}).items()},
        safety_threshold=safety_threshold,
    )
    return to_gemini(parse_chat(msgspec.json.encode(body)), model, around)


def contents(messages: list[Json], model: str = FLASH_2, **fields: Any) -> list[Json]:
    """Return the contents that messages become."""
    found: list[Json] = translate(model, messages=messages, **fields).body["contents"]
    return found


def config(model: str = FLASH_2, **fields: Any) -> Json:
    """Return the `generationConfig` that a request's fields become."""
    found: Json = translate(model, **fields).body.get("generationConfig", {})
    return found


def refusal(model: str = FLASH_2, **fields: Any) -> ServiceError:
    """Return the error for a request that must be refused."""
    with pytest.raises(ServiceError) as caught:
        translate(model, **fields)
    assert caught.value.status == 400
    return caught.value


def assert_refused(error: ServiceError, param: str | None, code: str = "invalid_value") -> None:
    """Check the two members of an error that clients act on."""
    assert (error.field, error.code) == (param, code)


def function(name: str, **fields: Any) -> Json:
    """Return a function's declaration, as OpenAI has it."""
    return {"type": "function", "function": {"name": name, **fields}}


def toolbox(*names: str, legacy: bool = False) -> Toolbox:
    """Return the tools of a request that declares functions."""
    if legacy:
        return translate(functions=[{"name": name} for name in names]).toolbox
    return translate(tools=[function(name) for name in names]).toolbox


def call(call_id: str, name: str = "f", arguments: str = "{}", **fields: Any) -> Json:
    """Return a tool call of an earlier answer."""
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
        **fields,
    }


def calls(*of_message: Json, **fields: Any) -> Json:
    """Return an assistant's message with calls."""
    return {"role": "assistant", "content": None, "tool_calls": list(of_message), **fields}


def result(call_id: str, content: Any = "ok") -> Json:
    """Return the message with a call's result."""
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def signed(signature: str) -> Json:
    """Return the member of a call in which clients send its signature back."""
    return {"extra_content": {"google": {"thought_signature": signature}}}


def gemini(candidates: list[Json] | None = None, **fields: Any) -> GenerateContentResponse:
    """Return an answer or a chunk as Gemini writes it."""
    body = {**({} if candidates is None else {"candidates": candidates}), **fields}
    return decode_answer(json.dumps(body))


def candidate(*parts: Json, finish: str | int | None = None, **fields: Any) -> Json:
    """Return one candidate."""
    made: Json = {"content": {"role": "model", "parts": list(parts)}, **fields}
    return made if finish is None else {**made, "finishReason": finish}


def chunk(*parts: Json, finish: str | int | None = None, **fields: Any) -> GenerateContentResponse:
    """Return a chunk with one candidate."""
    return gemini([candidate(*parts, finish=finish, **fields)])


def function_call(name: str = "f", args: Json | None = None, **fields: Any) -> Json:
    """Return a part with a call; `thoughtSignature` stands beside it, all else in it."""
    beside = fields.pop("thoughtSignature", None)
    part: Json = {"functionCall": {"name": name, "args": args or {}, **fields}}
    return part if beside is None else {**part, "thoughtSignature": beside}


def whole(
    *chunks: GenerateContentResponse,
    tools: Toolbox | None = None,
    one_call: bool = False,
    choices: int = 1,
    **fields: Any,
) -> Json:
    """Return the `chat.completion` that an answer becomes."""
    answer, tally = AnswerState(tools or Toolbox(), one_call=one_call), UsageTally()
    for received in chunks:
        answer.add(received)
        tally.note([received])
    answer.finish()
    return chat_completion(
        answer,
        completion_id="chatcmpl-1",
        created=5,
        model="gpt-4",
        reasons=answer.reasons(choices),
        usage=tally.usage,
        cost_nanos=COST_NANOS,
        **fields,
    )


def message(*chunks: GenerateContentResponse, **options: Any) -> Json:
    """Return the message of the only choice that an answer becomes."""
    (choice,) = whole(*chunks, **options)["choices"]
    found: Json = choice["message"]
    return found


def events(raw: bytes) -> list[Json]:
    """Read events, each of one `data:` line and a blank one."""
    assert raw.endswith(b"\n\n") or not raw
    lines = [line for line in raw.decode().split("\n\n") if line]
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def streamed(
    *chunks: GenerateContentResponse,
    tools: Toolbox | None = None,
    one_call: bool = False,
    choices: int = 1,
    **fields: Any,
) -> list[Json]:
    """Return all events of a stream."""
    answer, tally = AnswerState(tools or Toolbox(), one_call=one_call), UsageTally()
    translator = ChatStreamTranslator(
        completion_id="chatcmpl-1",
        created=5,
        model="gpt-4",
        answer=answer,
        choices=choices,
        **fields,
    )
    raw = b""
    for received in chunks:
        raw += translator.chunk(received)
        tally.note([received])
    raw += translator.finish()
    return events(raw + translator.end(answer.reasons(choices), tally.usage, COST_NANOS))


def deltas(found: list[Json], index: int = 0) -> list[Json]:
    """Return one choice's deltas, without those that say nothing."""
    return [
        choice["delta"]
        for event in found
        for choice in event["choices"]
        if choice["index"] == index and choice["delta"]
    ]


def finishes(found: list[Json]) -> list[tuple[int, str]]:
    """Return the index and the reason of each choice that is told to have ended."""
    return [
        (choice["index"], choice["finish_reason"])
        for event in found
        for choice in event["choices"]
        if choice["finish_reason"] is not None
    ]
