"""Why answers end: Gemini's reasons as OpenAI's five, in whole answers and in streams."""

import pytest

from ai_proxy_service.core.errors import UpstreamError
from ai_proxy_service.core.gemini import GenerateContentResponse
from ai_proxy_service.core.gemini_answers import finish_name
from ai_proxy_service.translation.answer import AnswerState
from support.chats import (
    Json,
    candidate,
    chunk,
    deltas,
    finishes,
    function_call,
    gemini,
    streamed,
    whole,
)

TEXT, CALL = {"text": "x"}, function_call("f")
FILTERED = (
    *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
    *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "ESCALATION"),
    *("PUP_LIMITED_DISABLED", "MODEL_ARMOR"),
)
UNCLEAR = ("OTHER", "IMAGE_OTHER", "NO_IMAGE")
BROKEN = (
    *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"),
    *("TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE"),
)
# Gemini's reason, and OpenAI's for an answer with nothing, with text, and with a call.
TABLE = [
    ("STOP", "stop", "stop", "tool_calls"),
    ("FINISH_REASON_UNSPECIFIED", "stop", "stop", "tool_calls"),
    ("MAX_TOKENS", "length", "length", "length"),
    ("CONTINUATION", "length", "length", "length"),
    *((name, "content_filter", "content_filter", "content_filter") for name in FILTERED),
    *((name, "content_filter", "stop", "tool_calls") for name in UNCLEAR),
]


@pytest.mark.parametrize(("native", "empty", "text", "call"), TABLE)
def test_each_reason_has_openais_word(native: str, empty: str, text: str, call: str) -> None:
    for part, expected in ((None, empty), (TEXT, text), (CALL, call)):
        parts = [part] if part else []
        apart = [chunk(*parts), chunk(finish=native)]
        for chunks in ([chunk(*parts, finish=native)], apart):
            (choice,) = whole(*chunks)["choices"]
            found = streamed(*chunks)

            assert choice["finish_reason"] == expected
            assert choice["native_finish_reason"] == native
            assert finishes(found) == [(0, expected)]
            assert found[-1]["choices"][0]["native_finish_reason"] == native


def test_what_came_before_a_filter_is_kept() -> None:
    (choice,) = whole(chunk({"text": "half"}), chunk(finish="SAFETY"))["choices"]

    assert choice["message"]["content"] == "half"


@pytest.mark.parametrize(
    "chunks",
    [
        # Recorded: a finish in mid-stream, followed by more.
        [chunk(TEXT, finish="STOP"), chunk(CALL, finish="STOP")],
        [chunk(CALL, finish="STOP"), chunk(TEXT), chunk(finish="STOP")],
        [chunk(TEXT, finish="MAX_TOKENS"), chunk(CALL, finish="STOP")],
        [chunk(CALL, finish="STOP"), chunk(finish="FINISH_REASON_UNSPECIFIED")],
        [chunk(TEXT, CALL, finish="STOP"), gemini(usageMetadata={"totalTokenCount": 5})],
    ],
)
def test_only_the_last_of_several_finishes_ends_the_answer(
    chunks: list[GenerateContentResponse],
) -> None:
    found = streamed(*chunks)

    assert finishes(found) == [(0, "tool_calls")]
    assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("native", BROKEN)
@pytest.mark.parametrize("parts", [[], [TEXT], [CALL]])
def test_a_broken_answer_is_a_failure_never_a_stop(native: str, parts: list[Json]) -> None:
    with pytest.raises(UpstreamError) as caught:
        whole(chunk(*parts, finish=native, finishMessage="Malformed function call: print("))

    assert (caught.value.status, caught.value.code) == (502, native.lower())
    assert "print(" not in caught.value.message


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [chunk(TEXT)],
        [chunk(CALL)],
        [gemini(usageMetadata={"promptTokenCount": 5})],
        [gemini([candidate(TEXT, finish="STOP"), candidate(TEXT, index=1)])],
    ],
)
def test_an_answer_that_says_no_reason_broke_off(chunks: list[GenerateContentResponse]) -> None:
    with pytest.raises(UpstreamError) as caught:
        whole(*chunks, choices=2)

    assert (caught.value.status, caught.value.code) == (502, "upstream_error")


@pytest.mark.parametrize("native", [None, "STOP"])
def test_an_answer_cut_for_want_of_credit_ends_for_its_length(native: str | None) -> None:
    answer = AnswerState()
    answer.add(chunk(TEXT, finish=native))

    assert answer.reasons(1, cut_off=True) == {0: "length" if native is None else "stop"}


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "stop"),
        (1, "stop"),
        (2, "length"),
        (3, "content_filter"),
        (4, "content_filter"),
        (5, "stop"),
        (6, "content_filter"),
        (9, "content_filter"),
        (99, "stop"),
    ],
)
def test_numbers_of_reasons_are_understood(number: int, expected: str) -> None:
    """Some of Google's libraries ask for enumerations as numbers."""
    assert finishes(streamed(chunk(TEXT, finish=number))) == [(0, expected)]


def test_the_number_of_a_broken_answer_is_one_too() -> None:
    assert finish_name(10) == "MALFORMED_FUNCTION_CALL"
    with pytest.raises(UpstreamError):
        whole(chunk(finish=10))


BLOCKS = (
    *("SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "MODEL_ARMOR"),
    "JAILBREAK",
)


@pytest.mark.parametrize(
    ("feedback", "shown"),
    [
        *(({"blockReason": name}, name) for name in BLOCKS),
        ({"blockReason": 1}, "SAFETY"),
        # A golden file has only the text.
        ({"blockReasonMessage": "The prompt was blocked."}, "OTHER"),
    ],
)
@pytest.mark.parametrize("candidates", [None, []])
@pytest.mark.parametrize("choices", [1, 2])
def test_a_blocked_prompt_is_one_refusal(
    feedback: Json, shown: str, candidates: list[Json] | None, choices: int
) -> None:
    blocked = gemini(candidates, promptFeedback=feedback, usageMetadata={"promptTokenCount": 7})

    body = whole(blocked, choices=choices)
    found = streamed(blocked, choices=choices, include_usage=True)

    (choice,) = body["choices"]
    assert choice["message"]["content"] is None
    assert choice["message"]["refusal"] == f"Blocked: {shown}"
    assert choice["finish_reason"] == "content_filter"
    assert choice["native_finish_reason"] == shown
    assert body["usage"]["completion_tokens"] == 0
    assert body["usage"]["prompt_tokens"] == 7
    assert finishes(found) == [(0, "content_filter")]
    assert {item["index"] for event in found for item in event["choices"]} == {0}
    assert {"refusal": f"Blocked: {shown}"} in deltas(found)


def test_ratings_beside_an_answer_block_nothing() -> None:
    rated = gemini([candidate(TEXT, finish="STOP")], promptFeedback={"safetyRatings": []})

    assert whole(rated)["choices"][0]["finish_reason"] == "stop"
