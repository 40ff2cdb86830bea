"""Gemini's chunks as OpenAI's events: what may come once only, and in which order."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy_service.core.usage import TokenUsage
from ai_proxy_service.translation.answer import AnswerState
from ai_proxy_service.translation.stream import DONE, ChatStreamTranslator
from support.chats import (
    Json,
    candidate,
    chunk,
    deltas,
    events,
    finishes,
    function_call,
    gemini,
    streamed,
    whole,
)
from support.fakes import text_chunk
from support.openai_schema import assert_valid

STOP = chunk(finish="STOP")
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
SOUND = {"inlineData": {"mimeType": "audio/wav", "data": base64.b64encode(b"x").decode()}}
GROUNDED: Json = {
    "groundingMetadata": {
        "groundingChunks": [{"web": {"uri": "https://e.com", "title": "E"}}],
        "groundingSupports": [
            {"segment": {"endIndex": 1, "text": "H"}, "groundingChunkIndices": [0]},
            {"segment": {"startIndex": 1, "endIndex": 2}, "groundingChunkIndices": [0]},
        ],
    }
}


def test_the_role_is_said_once_and_first() -> None:
    found = streamed(chunk({"text": "Hel"}), chunk({"text": "lo"}), STOP)

    assert deltas(found) == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
    ]
    assert {(e["id"], e["created"], e["model"], e["object"]) for e in found} == {
        ("chatcmpl-1", 5, "gpt-4", "chat.completion.chunk")
    }


def test_the_role_is_said_as_soon_as_anything_comes() -> None:
    translator = ChatStreamTranslator(
        completion_id="chatcmpl-1", created=5, model="m", answer=AnswerState()
    )

    first = events(translator.chunk(gemini(usageMetadata={"promptTokenCount": 1})))
    assert deltas(first) == [{"role": "assistant", "content": ""}]
    assert events(translator.chunk(gemini(usageMetadata={}))) == []


def test_all_kinds_of_chunks_are_valid() -> None:
    found = streamed(
        chunk({"text": "hm", "thought": True}),
        chunk({"text": "Hi"}, PICTURE, SOUND),
        chunk(function_call("f", id="1", thoughtSignature="s"), function_call("g")),
        chunk({"text": "", "thoughtSignature": "t"}, finish="STOP", **GROUNDED),
        include_usage=True,
        tier_asked=True,
    )

    for event in found:
        assert_valid(event, "CreateChatCompletionStreamResponse")


def test_lines_are_data_only_one_event_each() -> None:
    translator = ChatStreamTranslator(
        completion_id="chatcmpl-1", created=5, model="m\n", answer=AnswerState()
    )

    raw = translator.chunk(chunk({"text": "a\nb\r\n\n\u2028data: x\x85"}))
    raw += translator.finish() + translator.end({0: "stop"}, None, 0)

    lines = raw.split(b"\n")
    assert all(not line or line.startswith(b"data: {") for line in lines)
    assert lines[1::2] == [b""] * (len(lines) // 2)
    assert b"\r" not in raw
    assert DONE == b"data: [DONE]\n\n"


def test_usage_comes_once_last_and_only_if_asked_for() -> None:
    chunks = [text_chunk("x"), text_chunk("", output=4, thoughts=5, finish="STOP")]

    *others, last = streamed(*chunks, include_usage=True)
    assert [event["usage"] for event in others] == [None] * len(others)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 9
    assert last["usage"]["completion_tokens_details"]["reasoning_tokens"] == 5
    assert all("usage" not in event and event["choices"] for event in streamed(*chunks))


@pytest.mark.parametrize("include_usage", [True, False])
def test_the_operator_may_have_usage_told_unasked_on_the_last_choice(
    *, include_usage: bool
) -> None:
    usage = TokenUsage(prompt_tokens=3, candidates_tokens=4, total_tokens=7)
    translator = ChatStreamTranslator(
        completion_id="chatcmpl-1",
        created=5,
        model="m",
        answer=AnswerState(),
        choices=2,
        include_usage=include_usage,
        usage_on_finish=True,
    )

    found = events(translator.end({1: "stop", 0: "stop"}, usage, 2_500))

    told = [event for event in found if event.get("usage")]
    assert told == [found[-1]]
    assert told[0]["usage"]["total_tokens"] == 7
    assert bool(told[0]["choices"]) is not include_usage


def test_each_call_has_a_chunk_of_its_own_and_is_told_whole() -> None:
    """Clients join what is repeated, and some see only the first call of a chunk."""
    found = streamed(
        chunk(function_call("f", {"a": 1}, id="1", thoughtSignature="s"), function_call("g")), STOP
    )

    first, second = deltas(found)[1:]
    assert first == {
        "tool_calls": [
            {
                "index": 0,
                "id": "1",
                "type": "function",
                "function": {"name": "f", "arguments": '{"a":1}'},
                "extra_content": {"google": {"thought_signature": "s"}},
            }
        ]
    }
    assert [call["index"] for call in second["tool_calls"]] == [1]
    assert finishes(found) == [(0, "tool_calls")]


def test_calls_are_held_back_until_it_is_known_whose_they_are() -> None:
    translator = ChatStreamTranslator(
        completion_id="chatcmpl-1", created=5, model="m", answer=AnswerState()
    )

    held = events(translator.chunk(chunk(function_call("f"), {"text": "x"})))
    assert [list(delta) for delta in deltas(held)] == [["role", "content"], ["content"]]
    let_out = events(translator.chunk(chunk({"text": "y"})))
    assert [list(delta) for delta in deltas(let_out)] == [["tool_calls"], ["content"]]
    assert translator.finish() == b""


def test_what_is_known_only_at_the_end_comes_before_the_finish_in_single_chunks() -> None:
    found = streamed(
        chunk({"text": "Hi"}, SOUND, **GROUNDED),
        chunk({"text": "", "thoughtSignature": "s"}, finish="STOP"),
    )

    last = [next(iter(delta)) for delta in deltas(found)[-3:]]
    assert sorted(last) == ["annotations", "audio", "extra_content"]
    (annotations,) = [d["annotations"] for d in deltas(found) if "annotations" in d]
    assert len(annotations) == 2
    assert found[-1]["choices"][0]["finish_reason"] == "stop"


def test_nothing_empty_is_sent() -> None:
    """Some clients change the form of the content for a list of no pictures."""
    found = streamed(chunk({"text": "x"}), chunk({"text": ""}), chunk(), STOP)

    for delta in deltas(found)[1:]:
        assert all(delta.values())


def test_answers_side_by_side_begin_in_order_and_end_once_each() -> None:
    """Whichever comes first from Gemini: clients count choices by their first appearance."""
    found = streamed(
        gemini([candidate({"text": "c"}, index=2)]),
        gemini([candidate({"text": "b"}, index=1, finish="STOP"), candidate({"text": "a"})]),
        gemini([candidate(index=2, finish="MAX_TOKENS"), candidate({"text": "!"}, index=1)]),
        gemini([candidate(function_call("f"), index=0, finish="STOP")]),
        choices=3,
        include_usage=True,
    )

    indexes = [choice["index"] for event in found for choice in event["choices"]]
    assert list(dict.fromkeys(indexes)) == [0, 1, 2]
    assert finishes(found) == [(0, "tool_calls"), (1, "stop"), (2, "length")]
    for index, text in enumerate(("a", "b!", "c")):
        told = deltas(found, index)
        assert "".join(delta.get("content") or "" for delta in told) == text
        assert [delta.get("role") for delta in told].count("assistant") == 1


PARTS = [
    {"text": "a"},
    {"text": ""},
    {"text": "hm", "thought": True},
    function_call("f", {"x": 1}, id="i1", thoughtSignature="s"),
    function_call("g", id="i2"),
    {"executableCode": {"code": "x", "language": "PYTHON"}},
    {"codeExecutionResult": {"output": "y"}},
    PICTURE,
    {"text": "é", "thoughtSignature": "t"},
]


@given(
    st.lists(st.lists(st.sampled_from(PARTS), max_size=4), max_size=6),
    st.booleans(),
)
def test_a_stream_tells_the_same_as_a_whole_answer(given: list[list[Json]], usage: bool) -> None:
    chunks = [*(chunk(*parts) for parts in given), STOP]
    (choice,) = whole(*chunks)["choices"]
    expected: Any = choice["message"]

    found = streamed(*chunks, include_usage=usage)

    told: Json = {}
    for delta in deltas(found):
        for name, value in delta.items():
            told[name] = told[name] + value if name in told else value
    assert (told["content"] or None) == (expected["content"] or None)
    assert told.get("reasoning_content") == expected.get("reasoning_content")
    assert told.get("images") == expected.get("images")
    assert told.get("extra_content") == expected.get("extra_content")
    calls = [{**call, "id": ""} for call in expected.get("tool_calls", [])]
    shown = [{**call, "id": ""} for call in told.get("tool_calls", [])]
    assert [call.pop("index") for call in shown] == list(range(len(calls)))
    assert json.dumps(shown, sort_keys=True) == json.dumps(calls, sort_keys=True)
    assert finishes(found) == [(0, choice["finish_reason"])]
