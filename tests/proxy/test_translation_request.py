"""OpenAI chat requests as Gemini bodies."""

from typing import Any

import msgspec
import pytest

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.core.models import parse_aliases, resolve_model
from ai_proxy_service.translation.request import (
    Surroundings,
    TranslatedChat,
    ignored_names,
    parse_chat,
    to_gemini,
)
from service_kit.errors import ServiceError
from support.orders import CATALOG

HI = [{"role": "user", "content": "hi"}]


def translate(model: str = "gemini-2.0-flash", **fields: Any) -> TranslatedChat:
    body = msgspec.json.encode({"model": model, "messages": HI, **fields})
    chat = parse_chat(body)
    return to_gemini(chat, model, Surroundings(price=CATALOG.models["gemini-2.5-flash"]))


def refusal(**fields: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        translate(**fields)
    assert caught.value.status == 400
    return caught.value


def test_a_conversation_keeps_its_order_and_its_sides() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one"},
        {"role": "user", "content": [{"type": "text", "text": "two"}]},
        {"role": "assistant", "content": "three"},
        {"role": "developer", "content": "in French"},
        {"role": "user", "content": "four"},
    ]

    assert translate(messages=messages).body == {
        "systemInstruction": {"parts": [{"text": "be brief"}, {"text": "in French"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "one"}, {"text": "two"}]},
            {"role": "model", "parts": [{"text": "three"}]},
            {"role": "user", "parts": [{"text": "four"}]},
        ],
    }


def test_a_system_message_alone_is_asked_by_the_user() -> None:
    body = translate(messages=[{"role": "system", "content": "say hi"}]).body

    assert body == {"contents": [{"role": "user", "parts": [{"text": "say hi"}]}]}


def test_what_clients_echo_back_is_accepted() -> None:
    """SDKs send whole response messages back, nulls and unknown members included."""
    echoed = {
        "role": "assistant",
        "content": "hello",
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": None,
        "parsed": None,
    }

    body = translate(messages=[*HI, echoed, *HI], foo=1, tools=None, n=None).body

    assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]


def test_the_common_parameters_are_translated() -> None:
    translated = translate(
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        max_tokens=10,
        max_completion_tokens=2000,
        stop=["a", "", "b"],
        seed=2**40 + 3,
    )

    assert translated.max_output_tokens == 2000
    assert translated.body["generationConfig"] == {
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 5,
        "maxOutputTokens": 2000,
        "stopSequences": ["a", "b"],
        "seed": 3,
    }


@pytest.mark.parametrize(
    ("wanted", "config"),
    [
        ({"type": "text"}, {}),
        ({"type": "json_object"}, {"responseMimeType": "application/json"}),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}},
        ),
    ],
)
def test_the_form_of_the_answer_is_asked_for(
    wanted: dict[str, Any], config: dict[str, Any]
) -> None:
    assert translate(response_format=wanted).body.get("generationConfig", {}) == config


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-2.0-flash", "high", None),
        ("gemini-2.5-flash", None, {"includeThoughts": True}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-flash", "medium", {"thinkingBudget": 8192, "includeThoughts": True}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128, "includeThoughts": True}),
        ("gemini-2.5-pro", "max", {"thinkingBudget": 32768, "includeThoughts": True}),
        ("gemini-3-flash-preview", "none", {"thinkingLevel": "MINIMAL", "includeThoughts": True}),
        ("gemini-3.1-pro-preview", "medium", {"thinkingLevel": "MEDIUM", "includeThoughts": True}),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        ("gemini-3.8-flash", "minimal", {"thinkingLevel": "LOW", "includeThoughts": True}),
    ],
)
def test_effort_becomes_the_setting_that_the_model_takes(
    model: str, effort: str | None, config: dict[str, Any] | None
) -> None:
    body = translate(model, reasoning_effort=effort).body

    assert body.get("generationConfig", {}).get("thinkingConfig") == config


def test_a_small_limit_is_not_spent_on_thinking() -> None:
    config = translate("gemini-2.5-flash", max_tokens=100).body["generationConfig"]

    assert config["thinkingConfig"] == {"thinkingBudget": 0}


def test_parameters_without_effect_are_named() -> None:
    translated = translate("gemini-3.8-flash", frequency_penalty=0.5, presence_penalty=0, top_k=3)

    assert translated.ignored == ["frequency_penalty", "top_k"]


def test_unknown_names_are_listed_if_a_header_can_show_them() -> None:
    given: dict[str, Any] = {
        "model": "m",
        "verbosity": "low",
        "store": None,
        "a\r\nb": 1,
        "foo-1": {},
    }

    assert ignored_names(msgspec.json.encode(given)) == ["verbosity", "foo-1"]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"model": 3}, "model", "invalid_type"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": True}, "max_tokens", "invalid_type"),
        ({"top_p": 1.5}, "top_p", "invalid_value"),
        ({"frequency_penalty": 9}, "frequency_penalty", "invalid_value"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"n": 9}, "n", "invalid_value"),
        (
            {"tools": [{"type": "function"}]},
            "tools[0].function",
            "missing_required_parameter",
        ),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"logit_bias": {"1": 5}}, "logit_bias", "unsupported_parameter"),
        ({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "invalid_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema",
            "missing_required_parameter",
        ),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
            "messages[0].content[0].type",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        ({"user": ""}, "user", "invalid_value"),
        ({"user": "x" * 129}, "user", "invalid_value"),
    ],
)
def test_bad_input_is_refused_with_the_name_of_the_field(
    fields: dict[str, Any], param: str, code: str
) -> None:
    error = refusal(**fields)

    assert (error.field, error.code) == (param, code)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"null", b'{"model":"\\ud800"}'])
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(ServiceError) as caught:
        parse_chat(body)

    assert caught.value.status == 400


def test_a_very_deep_body_is_refused() -> None:
    with pytest.raises(ServiceError):
        parse_chat(b'{"model":"m","messages":' + b"[" * 100_000)


@pytest.mark.parametrize(
    ("requested", "model"),
    [
        ("gpt-4", "gemini-2.5-pro"),
        ("gpt-4o-mini", "gemini-2.5-flash"),
        ("gemini-pro", "gemini-2.5-pro"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("google/gemini-flash", "gemini-2.5-flash"),
        ("mine", "gemini-3.8-flash"),
        ("unheard-of", "unheard-of"),
    ],
)
def test_models_are_found_by_their_other_names(requested: str, model: str) -> None:
    assert resolve_model(requested, parse_aliases("mine=gemini-3.8-flash")) == model


@pytest.mark.parametrize("raw", ["a", "=b", "a=", "a=b,c"])
def test_a_broken_alias_setting_is_refused(raw: str) -> None:
    with pytest.raises(ValueError, match="alias=model"):
        parse_aliases(raw)


def test_refusals_are_of_the_proxys_own_kind() -> None:
    assert isinstance(refusal(n=9), InvalidRequestError)
