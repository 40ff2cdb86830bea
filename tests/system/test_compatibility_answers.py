"""What docs/compatibility.md says of answers is true: they have these fields and no others."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from ai_proxy_service.core.gemini import GenerateContentResponse
from ai_proxy_service.core.usage import TokenUsage
from ai_proxy_service.translation.answer import AnswerState
from ai_proxy_service.translation.embeddings import embeddings_body
from ai_proxy_service.translation.request import parse_chat
from ai_proxy_service.translation.response import chat_completion
from ai_proxy_service.translation.stream import ChatStreamTranslator
from ai_proxy_service.translation.text_completion import (
    TextStreamTranslator,
    text_choices,
    text_completion,
)
from ai_proxy_service.translation.tools import read_tools
from support.compatibility import rows

TOOLS = {
    "tools": [
        {"type": "function", "function": {"name": "f"}},
        {"type": "custom", "custom": {"name": "g"}},
    ]
}
LEGACY_TOOLS = {"functions": [{"name": "f"}]}
CHUNK: dict[str, Any] = {
    "candidates": [
        {
            "content": {
                "parts": [
                    {"text": "hm", "thought": True},
                    {"text": "Hello", "thoughtSignature": "c2ln"},
                    {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                    {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
                    {
                        "functionCall": {"name": "f", "args": {}},
                        "thoughtSignature": "c2ln",
                    },
                    {"functionCall": {"name": "g", "args": {"input": "x"}}},
                ]
            },
            "finishReason": "STOP",
            "logprobsResult": {
                "chosenCandidates": [{"token": "Hello", "logProbability": -0.5}],
                "topCandidates": [{"candidates": [{"token": "Hello", "logProbability": -0.5}]}],
            },
        }
    ],
}
HEAD: dict[str, Any] = {"completion_id": "x", "created": 1, "model": "m"}


def answer(*, legacy: bool = False) -> AnswerState:
    """Return an answer with everything that an answer can have."""
    tools = LEGACY_TOOLS if legacy else TOOLS
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **tools}
    chat = parse_chat(json.dumps(asked).encode())
    return AnswerState(read_tools(chat), one_call=legacy)


def chunk() -> GenerateContentResponse:
    return msgspec.json.decode(json.dumps(CHUNK).encode(), type=GenerateContentResponse)


def paths(value: Any, prefix: str = "") -> Iterator[str]:
    """Return the paths of all members of a JSON value."""
    if isinstance(value, list):
        for item in value:
            yield from paths(item, f"{prefix}[]")
    elif isinstance(value, dict):
        for name, item in value.items():
            path = f"{prefix}.{name}" if prefix else name
            yield path
            yield from paths(item, path)


def events(sent: bytes) -> list[Any]:
    return [json.loads(event.removeprefix(b"data: ")) for event in sent.split(b"\n\n") if event]


def whole_answers() -> list[dict[str, Any]]:
    found = []
    for legacy in (False, True):
        state = answer(legacy=legacy)
        state.add(chunk())
        state.finish()
        found.append(
            chat_completion(
                state,
                **HEAD,
                reasons=state.reasons(1),
                usage=TokenUsage(),
                cost_nanos=0,
                tier_asked=True,
            )
        )
    return found


def streamed_chunks() -> list[Any]:
    found: list[Any] = []
    for legacy in (False, True):
        translator = ChatStreamTranslator(
            **HEAD, answer=answer(legacy=legacy), include_usage=True, tier_asked=True
        )
        sent = translator.chunk(chunk()) + translator.finish()
        sent += translator.end(translator.answer.reasons(1), TokenUsage(), 0)
        found += events(sent)
    return found


def text_answers() -> list[Any]:
    state = AnswerState()
    state.add(chunk())
    choices = text_choices(state, {0: "stop"}, 0)
    translator = TextStreamTranslator(**HEAD, include_usage=True)
    sent = translator.chunk(chunk()) + translator.end({0: "stop"}, TokenUsage(), 0)
    return [text_completion(choices, **HEAD, usage={}), *events(sent)]


def told(section: str, prefix: str = "") -> set[str]:
    """Return what the document says is in the answer."""
    return {f"{prefix}{name}" for name, here in rows(section).items() if here in {"sent", "ours"}}


def assert_told(found: set[str], told_paths: set[str], silent: tuple[str, ...] = ()) -> None:
    """Compare what an answer has with what the document says; not below some paths."""
    shown = {path for path in found if not path.startswith(silent)} if silent else found
    assert shown - told_paths == set()
    assert told_paths - found == set()


MESSAGE_INSIDES = tuple(
    f"{name}{rest}"
    for name, rests in {
        "annotations": ("[]",),
        "tool_calls[]": (".function.", ".custom.", ".extra_content."),
        "function_call": (".",),
        "audio": (".",),
        "images": ("[]",),
        "extra_content": (".",),
    }.items()
    for rest in rests
)


def test_a_whole_answer_has_what_is_said_and_nothing_else() -> None:
    found = {path for each in whole_answers() for path in paths(each)}
    message = "choices[].message."

    assert_told(
        found,
        told("chat-answer") | told("message", message) | told("usage", "usage."),
        (
            "choices[].logprobs.content[]",
            *(f"{message}{inside}" for inside in MESSAGE_INSIDES),
        ),
    )


def test_chunks_have_what_is_said_and_nothing_else() -> None:
    found = {path for each in streamed_chunks() for path in paths(each)}
    delta = "choices[].delta."
    # Only a refused prompt has a refusal there, and only what rests on sources annotations.
    rare = {f"{delta}refusal", f"{delta}annotations"}
    logprobs = {f"choices[].logprobs.{name}" for name in ("content", "refusal")}

    assert_told(
        found | rare,
        told("chunk") | told("message", delta) | told("usage", "usage."),
        (
            *logprobs,
            f"{delta}tool_calls[].index",
            *(f"{delta}{inside}" for inside in MESSAGE_INSIDES),
        ),
    )


def test_a_text_completion_has_what_is_said_and_nothing_else() -> None:
    found = {path for each in text_answers() for path in paths(each)}

    assert_told(found, told("completions-answer"), ("choices[].logprobs.", "usage."))


def test_embeddings_have_what_is_said_and_nothing_else() -> None:
    body = json.loads(embeddings_body("m", [[1.0]], None, 3, 0))

    assert_told(set(paths(body)), told("embeddings-answer"))
