"""Gemini's chunks as OpenAI's events, and why answers end."""

import json
from typing import Any

import pytest

from ai_proxy_service.core.errors import UpstreamError
from ai_proxy_service.core.gemini import (
    Candidate,
    Content,
    GenerateContentResponse,
    Part,
    PromptFeedback,
)
from ai_proxy_service.core.usage import TokenUsage
from ai_proxy_service.translation.answer import AnswerState
from ai_proxy_service.translation.response import chat_completion
from ai_proxy_service.translation.stream import ChatStreamTranslator
from support.fakes import text_chunk


def events(raw: bytes) -> list[dict[str, Any]]:
    assert raw.endswith(b"\n\n") or not raw
    lines = [line for line in raw.decode().split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def translator(*, include_usage: bool = False) -> ChatStreamTranslator:
    return ChatStreamTranslator(
        completion_id="chatcmpl-1",
        created=5,
        model="gpt-4",
        answer=AnswerState(),
        include_usage=include_usage,
    )


def test_the_role_is_said_once_and_first() -> None:
    stream = translator()

    first = events(stream.chunk(text_chunk("Hel")))
    second = events(stream.chunk(text_chunk("lo")))

    assert [event["choices"][0]["delta"] for event in first + second] == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
    ]
    assert {(e["id"], e["created"], e["model"], e["object"]) for e in first + second} == {
        ("chatcmpl-1", 5, "gpt-4", "chat.completion.chunk")
    }


def test_usage_comes_once_last_and_only_if_asked_for() -> None:
    usage = TokenUsage(prompt_tokens=3, candidates_tokens=4, thoughts_tokens=5, total_tokens=12)
    asked, not_asked = translator(include_usage=True), translator()

    assert events(asked.chunk(text_chunk("x")))[0]["usage"] is None
    finish, event = events(asked.end({0: "stop"}, usage))
    assert finish["usage"] is None
    assert event["choices"] == []
    assert event["usage"]["completion_tokens"] == 9
    assert event["usage"]["completion_tokens_details"]["reasoning_tokens"] == 5
    assert "usage" not in events(not_asked.chunk(text_chunk("x")))[0]
    (finish,) = events(not_asked.end({0: "stop"}, usage))
    assert "usage" not in finish


def test_thinking_is_told_apart_from_the_answer() -> None:
    chunk = GenerateContentResponse(
        candidates=[
            Candidate(content=Content(parts=[Part(text="hm", thought=True), Part(text="42")]))
        ]
    )

    deltas = [event["choices"][0]["delta"] for event in events(translator().chunk(chunk))]

    assert deltas[1:] == [{"reasoning_content": "hm"}, {"content": "42"}]


def test_a_finish_in_mid_stream_does_not_end_the_answer() -> None:
    """Recorded streams of gemini-2.5-flash have several finish reasons."""
    stream = translator()

    texts = [
        event["choices"][0]["delta"].get("content")
        for chunk in (
            text_chunk("a", finish="STOP"),
            text_chunk("b"),
            text_chunk("", finish="MAX_TOKENS"),
        )
        for event in events(stream.chunk(chunk))
    ]

    assert texts == ["", "a", "b"]
    assert stream.answer.reasons(1) == {0: "length"}


@pytest.mark.parametrize(
    ("native", "text", "reason"),
    [
        ("STOP", "x", "stop"),
        ("MAX_TOKENS", "", "length"),
        ("SAFETY", "x", "content_filter"),
        ("RECITATION", "", "content_filter"),
        ("PROHIBITED_CONTENT", "", "content_filter"),
        ("OTHER", "x", "stop"),
        ("OTHER", "", "content_filter"),
        ("A_REASON_OF_TOMORROW", "", "content_filter"),
    ],
)
def test_reasons_become_openais(native: str, text: str, reason: str) -> None:
    answer = AnswerState()

    answer.add(text_chunk(text, finish=native))

    assert answer.reason() == reason


@pytest.mark.parametrize(
    "native", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"]
)
def test_a_broken_answer_is_a_failure_never_a_stop(native: str) -> None:
    answer = AnswerState()
    answer.add(GenerateContentResponse(candidates=[Candidate(finish_reason=native)]))

    with pytest.raises(UpstreamError) as caught:
        answer.reason()

    assert (caught.value.status, caught.value.code) == (502, native.lower())


def test_an_answer_without_a_reason_broke_off() -> None:
    answer = AnswerState()
    answer.add(text_chunk("half a"))

    with pytest.raises(UpstreamError):
        answer.reason()


def test_a_blocked_prompt_is_a_refusal() -> None:
    answer = AnswerState()
    answer.add(GenerateContentResponse(prompt_feedback=PromptFeedback(block_reason="SAFETY")))

    body = chat_completion(
        answer,
        completion_id="chatcmpl-1",
        created=1,
        model="m",
        reasons=answer.reasons(2),
        usage=None,
    )

    choice = body["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"]["content"] is None
    assert choice["message"]["refusal"] == "Blocked: SAFETY"
    assert body["usage"]["completion_tokens"] == 0
