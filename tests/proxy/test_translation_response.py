"""The whole answer's object: its form, usage, pictures and sound."""

import base64
import wave
from io import BytesIO
from typing import Any

import pytest

from support.chats import Json, chunk, function_call, gemini, message, streamed, whole
from support.openai_schema import assert_valid

STOP = chunk(finish="STOP")
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
SAMPLES = b"\x01\x00\x02\x00"


def sound(samples: bytes, mime_type: str = "audio/L16;codec=pcm;rate=24000") -> Json:
    return {"inlineData": {"mimeType": mime_type, "data": base64.b64encode(samples).decode()}}


def test_an_answer_has_all_that_openai_requires() -> None:
    body = whole(
        chunk({"text": "hm", "thought": True}, {"text": "Hi"}, finish="STOP"), tier_asked=False
    )

    assert_valid(body, "CreateChatCompletionResponse")
    assert body == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 5,
        "model": "gpt-4",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hi",
                    "refusal": None,
                    "annotations": [],
                    "reasoning_content": "hm",
                },
                "logprobs": None,
                "finish_reason": "stop",
                "native_finish_reason": "STOP",
            }
        ],
        "usage": {
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "total_tokens": 0,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
            "cost": "0.0000125",
        },
    }


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(function_call("f", {"a": 1}, thoughtSignature="s"), finish="STOP")],
        [chunk({"text": "x"}, PICTURE, finish="MAX_TOKENS")],
        [gemini(promptFeedback={"blockReason": "SAFETY"})],
        [chunk(sound(SAMPLES), finish="STOP")],
    ],
)
def test_all_kinds_of_answers_are_valid(chunks: list[Any]) -> None:
    assert_valid(whole(*chunks), "CreateChatCompletionResponse")


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ([function_call("f")], None),
        ([{"text": ""}, function_call("f")], None),
        ([{"text": "x"}, function_call("f")], "x"),
        ([], ""),
        ([{"text": "hm", "thought": True}], ""),
    ],
)
def test_the_content_is_null_where_there_are_only_calls(
    parts: list[Json], content: str | None
) -> None:
    assert message(chunk(*parts, finish="STOP"))["content"] == content


# Counts as Gemini has them, and OpenAI's: prompt, completion, total, cached, thoughts, audio.
USAGES = [
    ({}, (0, 0, 0, 0, 0, 0, 0)),
    (
        {"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8},
        (5, 3, 8, 0, 0, 0, 0),
    ),
    (
        {
            "promptTokenCount": 5,
            "candidatesTokenCount": 3,
            "thoughtsTokenCount": 20,
            "totalTokenCount": 28,
        },
        (5, 23, 28, 0, 20, 0, 0),
    ),
    # All spent on thinking: the candidates' count is absent then, not 0.
    (
        {"promptTokenCount": 5, "thoughtsTokenCount": 20, "totalTokenCount": 25},
        (5, 20, 25, 0, 20, 0, 0),
    ),
    (
        {
            "promptTokenCount": 100,
            "cachedContentTokenCount": 90,
            "toolUsePromptTokenCount": 7,
            "candidatesTokenCount": 1,
            "totalTokenCount": 108,
        },
        (107, 1, 108, 90, 0, 0, 0),
    ),
    (
        {
            "promptTokenCount": 9,
            "candidatesTokenCount": 8,
            "totalTokenCount": 17,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 4},
                {"modality": "AUDIO", "tokenCount": 5},
            ],
            "candidatesTokensDetails": [{"modality": 4, "tokenCount": 8}],
        },
        (9, 8, 17, 0, 0, 5, 8),
    ),
]


@pytest.mark.parametrize(("counts", "expected"), USAGES)
def test_usage_is_told_in_openais_terms(counts: Json, expected: tuple[int, ...]) -> None:
    last = gemini([{"finishReason": "STOP"}], usageMetadata=counts)

    told = whole(last)["usage"]

    assert streamed(last, include_usage=True)[-1]["usage"] == told
    assert (
        told["prompt_tokens"],
        told["completion_tokens"],
        told["total_tokens"],
        told["prompt_tokens_details"]["cached_tokens"],
        told["completion_tokens_details"]["reasoning_tokens"],
        told["prompt_tokens_details"]["audio_tokens"],
        told["completion_tokens_details"]["audio_tokens"],
    ) == expected


def test_the_last_report_counts_whether_it_is_higher_or_lower() -> None:
    reports = [{"promptTokenCount": 101, "candidatesTokenCount": 9}, {"promptTokenCount": 27}]
    chunks = [gemini([{"finishReason": "STOP"}], usageMetadata=report) for report in reports]

    told = whole(*chunks)["usage"]

    assert (told["prompt_tokens"], told["completion_tokens"], told["total_tokens"]) == (27, 0, 27)


@pytest.mark.parametrize(
    ("tier", "told"), [(None, "default"), ("standard", "default"), ("FLEX", "flex")]
)
def test_the_service_tier_is_told_if_it_was_asked_for(tier: str | None, told: str) -> None:
    usage = {"promptTokenCount": 1, **({} if tier is None else {"serviceTier": tier})}
    last = gemini([{"finishReason": "STOP"}], usageMetadata=usage)

    assert whole(last, tier_asked=True)["service_tier"] == told
    assert streamed(last, tier_asked=True)[-1]["service_tier"] == told
    assert "service_tier" not in whole(last)
    assert all("service_tier" not in event for event in streamed(last))


def test_pictures_stand_beside_the_text_in_their_order() -> None:
    second = {"inlineData": {"mimeType": "image/jpeg", "data": "BBBB"}}
    chunks = [chunk({"text": "see"}, PICTURE), chunk(second), STOP]
    images = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}, "index": 0},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,BBBB"}, "index": 1},
    ]

    answer = message(*chunks)
    told = [
        image
        for event in streamed(*chunks)
        for choice in event["choices"]
        for image in choice["delta"].get("images", ())
    ]

    assert (answer["content"], answer["images"]) == ("see", images)
    assert told == images


def test_a_spoken_answer_is_one_recording_in_a_file() -> None:
    chunks = [chunk(sound(SAMPLES)), chunk(sound(SAMPLES)), STOP]

    answer = message(*chunks)
    told = [
        choice["delta"]["audio"]
        for event in streamed(*chunks)
        for choice in event["choices"]
        if "audio" in choice["delta"]
    ]

    assert answer["content"] is None
    assert answer["audio"].keys() == {"id", "data", "expires_at", "transcript"}
    (streamed_audio,) = told
    assert streamed_audio["data"] == answer["audio"]["data"]
    with wave.open(BytesIO(base64.b64decode(answer["audio"]["data"]))) as recording:
        assert recording.getframerate() == 24_000
        assert recording.getsampwidth() == 2
        assert recording.getnchannels() == 1
        assert recording.readframes(10) == SAMPLES * 2


@pytest.mark.parametrize(
    ("mime_type", "as_wav", "data"),
    [
        ("audio/L16;rate=16000", False, SAMPLES),
        ("audio/wav", True, SAMPLES),
        ("audio/mpeg", False, SAMPLES),
    ],
)
def test_sound_that_needs_no_header_gets_none(mime_type: str, *, as_wav: bool, data: bytes) -> None:
    answer = message(chunk(sound(SAMPLES, mime_type)), STOP, as_wav=as_wav)

    assert base64.b64decode(answer["audio"]["data"]) == data
