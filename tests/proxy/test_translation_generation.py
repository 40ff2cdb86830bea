"""Every parameter of a chat request: what it becomes, and which values are refused."""

from typing import Any

import pytest

from ai_proxy_service.translation.generation import least_thinking
from ai_proxy_service.translation.openai_types import ChatRequest
from support.chats import (
    FLASH_2,
    FLASH_3,
    USER,
    Json,
    assert_refused,
    config,
    refusal,
    translate,
)

WITHOUT_TIERS = "gemini-3.1-flash-lite-preview"
SPEAKING = "gemini-2.5-flash-preview-tts"
DRAWING = "gemini-2.5-flash-image"
# No thinking, so that nothing but the parameter stands in the configuration.
PLAIN = "gemini-2.0-flash"
INT31 = (1 << 31) - 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"max_tokens": 5000}, {"maxOutputTokens": 5000}),
        ({"max_completion_tokens": 5000}, {"maxOutputTokens": 5000}),
        ({"max_completion_tokens": 2000, "max_tokens": 5000}, {"maxOutputTokens": 2000}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 2}, {"temperature": 2}),
        ({"top_p": 0.5}, {"topP": 0.5}),
        ({"top_k": 4}, {"topK": 4}),
        ({"n": 1}, {}),
        ({"n": 8}, {"candidateCount": 8}),
        ({"stop": "a"}, {"stopSequences": ["a"]}),
        ({"stop": ["a", "b", "c", "d"]}, {"stopSequences": ["a", "b", "c", "d"]}),
        ({"stop": ["", "b"]}, {"stopSequences": ["b"]}),
        ({"stop": ""}, {}),
        ({"stop": []}, {}),
        ({"seed": 42}, {"seed": 42}),
        ({"frequency_penalty": 0.5, "presence_penalty": -2}, {}),
        ({"logprobs": True}, {"responseLogprobs": True}),
        ({"logprobs": True, "top_logprobs": 0}, {"responseLogprobs": True, "logprobs": 0}),
        ({"logprobs": True, "top_logprobs": 20}, {"responseLogprobs": True, "logprobs": 20}),
        ({"logprobs": False}, {}),
        ({"logit_bias": {}}, {}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"responseMimeType": "application/json"}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "x",
                        "strict": True,
                        "schema": {"$schema": "http://json-schema.org", "type": "object"},
                    },
                }
            },
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}},
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            {"responseMimeType": "application/json"},
        ),
        ({"parallel_tool_calls": False}, {}),
        ({"verbosity": "low", "prediction": {"type": "content"}, "store": True}, {}),
        ({"modalities": ["text"]}, {}),
        ({"service_tier": "default"}, {}),
    ],
)
def test_each_parameter_has_its_form(fields: Json, expected: Json) -> None:
    assert config(PLAIN, **fields) == expected


OPTIONAL = sorted(set(ChatRequest.__struct_fields__) - {"model", "messages"})


def test_null_counts_as_absent_everywhere() -> None:
    nulls: Json = dict.fromkeys([*OPTIONAL, "foo"])

    assert translate(PLAIN, **{**nulls, "messages": [USER]}).body == translate(PLAIN).body


@pytest.mark.parametrize("seed", [-1, 0, INT31, INT31 + 1, 2**63 - 1, -(2**63)])
def test_a_seed_of_any_size_becomes_one_that_gemini_takes(seed: int) -> None:
    assert 0 <= config(seed=seed)["seed"] <= INT31


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        ("gemini-2.5-pro", True),
        (FLASH_3, True),
        ("gemini-3.5-flash", True),
        ("gemini-3.5-flash-lite", False),
        ("gemini-3.6-flash", False),
        ("gemini-3.8-flash", False),
        ("gemini-4-argon", False),
    ],
)
def test_sampling_is_dropped_and_named_where_a_model_ignores_it(model: str, *, kept: bool) -> None:
    translated = translate(model, temperature=0.2, top_p=0.3, top_k=4)

    sampling = {"temperature", "topP", "topK"} & translated.body["generationConfig"].keys()
    assert len(sampling) == (3 if kept else 0)
    assert set(translated.ignored) == (set() if kept else {"temperature", "top_p", "top_k"})


@pytest.mark.parametrize(
    ("asked", "sent", "tier"),
    [
        (None, None, "standard"),
        ("auto", None, "standard"),
        ("default", None, "standard"),
        ("scale", None, "standard"),
        ("flex", "FLEX", "flex"),
        ("priority", "PRIORITY", "priority"),
        ("fast", "PRIORITY", "priority"),
    ],
)
def test_each_service_tier_has_googles_name(asked: str | None, sent: str | None, tier: str) -> None:
    translated = translate(FLASH_2, service_tier=asked)

    assert translated.body.get("serviceTier") == sent
    assert (translated.tier, translated.ignored) == (tier, [])


@pytest.mark.parametrize(
    ("audio", "voice"),
    [
        (None, "Kore"),
        ({"voice": "alloy", "format": "wav"}, "Kore"),
        ({"voice": "Fable", "format": "pcm16"}, "Puck"),
        ({"voice": "Zephyr"}, "Zephyr"),
        ({"voice": None}, "Kore"),
    ],
)
@pytest.mark.parametrize("modalities", [["text", "audio"], ["audio"]])
def test_a_speaking_model_is_asked_to_speak(
    audio: Json | None, voice: str, modalities: list[str]
) -> None:
    asked = config(SPEAKING, modalities=modalities, audio=audio)

    assert asked["responseModalities"] == ["AUDIO"]
    told = asked["speechConfig"]["voiceConfig"]["prebuiltVoiceConfig"]["voiceName"]
    assert told == voice


def test_a_drawing_model_is_asked_for_text_and_pictures() -> None:
    asked = config(DRAWING, modalities=["image", "text"])

    assert asked["responseModalities"] == ["TEXT", "IMAGE"]


@pytest.mark.parametrize(
    ("model", "fields", "param", "code"),
    [
        (FLASH_2, {"max_completion_tokens": 0}, "max_completion_tokens", "invalid_value"),
        (FLASH_2, {"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        (FLASH_2, {"temperature": -0.1}, "temperature", "invalid_value"),
        # Also where it would be dropped.
        ("gemini-3.8-flash", {"temperature": 3}, "temperature", "invalid_value"),
        (FLASH_2, {"temperature": True}, "temperature", "invalid_type"),
        (FLASH_2, {"top_p": -1}, "top_p", "invalid_value"),
        (FLASH_2, {"top_k": 0}, "top_k", "invalid_value"),
        (FLASH_2, {"n": 0}, "n", "invalid_value"),
        (FLASH_2, {"n": 129}, "n", "invalid_value"),
        (FLASH_2, {"n": 9}, "n", "invalid_value"),
        (FLASH_3, {"n": 2}, "n", "invalid_value"),
        (FLASH_2, {"stop": 5}, "stop", "invalid_type"),
        (FLASH_2, {"stop": [5]}, "stop[0]", "invalid_type"),
        (FLASH_2, {"seed": "x"}, "seed", "invalid_type"),
        (FLASH_2, {"frequency_penalty": 2.1}, "frequency_penalty", "invalid_value"),
        (FLASH_2, {"presence_penalty": -3}, "presence_penalty", "invalid_value"),
        (FLASH_2, {"logprobs": 2}, "logprobs", "invalid_type"),
        (FLASH_2, {"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        (FLASH_2, {"top_logprobs": 3}, "top_logprobs", "invalid_value"),
        (FLASH_2, {"logprobs": False, "top_logprobs": 3}, "top_logprobs", "invalid_value"),
        (FLASH_2, {"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter"),
        (FLASH_2, {"response_format": {"type": "x"}}, "response_format.type", "invalid_value"),
        (
            FLASH_2,
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
            "missing_required_parameter",
        ),
        (FLASH_2, {"stream": "yes"}, "stream", "invalid_type"),
        (
            FLASH_2,
            {"stream": False, "stream_options": {"include_usage": True}},
            "stream_options",
            "invalid_value",
        ),
        (FLASH_2, {"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter"),
        (FLASH_2, {"modalities": ["image"]}, "modalities", "unsupported_parameter"),
        (FLASH_2, {"modalities": ["smell"]}, "modalities", "unsupported_parameter"),
        (FLASH_2, {"audio": {"voice": "alloy"}}, "audio", "unsupported_parameter"),
        (SPEAKING, {"audio": {"format": "mp3"}}, "audio.format", "invalid_value"),
        (SPEAKING, {"audio": {"voice": {"id": "x"}}}, "audio.voice", "invalid_value"),
        (FLASH_2, {"service_tier": "gold"}, "service_tier", "invalid_value"),
        # a tier that has no price is not sold
        (WITHOUT_TIERS, {"service_tier": "flex"}, "service_tier", "unsupported_parameter"),
        (WITHOUT_TIERS, {"service_tier": "fast"}, "service_tier", "unsupported_parameter"),
        (FLASH_2, {"web_search_options": True}, "web_search_options", "invalid_type"),
        (FLASH_2, {"tools": {}}, "tools", "invalid_type"),
        (FLASH_2, {"parallel_tool_calls": "no"}, "parallel_tool_calls", "invalid_type"),
    ],
)
def test_values_that_would_change_the_answer_are_refused(
    model: str, fields: Json, param: str, code: str
) -> None:
    assert_refused(refusal(model, **fields), param, code)


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"frequency_penalty": 0, "presence_penalty": 0.0}, []),
        ({"frequency_penalty": 1}, ["frequency_penalty"]),
        ({"presence_penalty": -1}, ["presence_penalty"]),
    ],
)
def test_penalties_that_no_model_takes_are_named(fields: Json, ignored: list[str]) -> None:
    assert translate(FLASH_2, **fields).ignored == ignored


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"thinkingBudget": 0}),
        ({"reasoning_effort": "high"}, None),
        ({"reasoning": {"effort": "high"}}, None),
    ],
)
def test_thinking_is_reduced_for_a_lowered_limit_unless_the_client_chose_it(
    fields: Any, expected: Json | None
) -> None:
    chat = ChatRequest(model="m", **fields)

    assert least_thinking(chat, FLASH_2) == expected
    assert least_thinking(chat, PLAIN) is None
