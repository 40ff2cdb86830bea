"""Tool calls in all their forms, with openai-python."""

import json
from collections.abc import Sequence
from typing import Any

import openai
import pytest

from clients.calls import calls_of, parts_of
from clients.gateway import (
    CLOCK,
    FLASH_3,
    FLASH_25,
    FLASH_38,
    WEATHER,
    WEATHER_AND_CLOCK_CALLS,
    WEATHER_CALL,
    Gateway,
    function,
    user,
)

MODELS = pytest.mark.parametrize("model", [FLASH_25, FLASH_3, FLASH_38])
PING = function("ping")
PING_CALL = "[[sim call=ping]]"


@MODELS
def test_07_a_tool_is_called(gateway: Gateway, model: str) -> None:
    answer = gateway.chat(f"Oslo {WEATHER_CALL}", model=model, tools=[WEATHER])

    (call,) = calls_of(answer)
    assert call.type == "function"
    assert call.id
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None


@MODELS
@pytest.mark.parametrize("finish_chunk", ["merged", "empty_text", "role", "absent"])
def test_08_a_streamed_call_is_neither_doubled_nor_torn(
    gateway: Gateway, model: str, finish_chunk: str
) -> None:
    orders = f"{WEATHER_CALL} [[sim thoughts=5 finish_chunk={finish_chunk}]]"
    final = gateway.helper_stream(f"Oslo {orders}", model=model, tools=[WEATHER])

    (call,) = calls_of(final)
    assert call.id
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    assert final.choices[0].finish_reason == "tool_calls"


@MODELS
def test_09_parallel_calls_are_streamed_one_by_one(gateway: Gateway, model: str) -> None:
    chunks = gateway.stream(WEATHER_AND_CLOCK_CALLS, model=model, tools=[WEATHER, CLOCK])

    deltas = [
        chunk.choices[0].delta.tool_calls for chunk in chunks if chunk.choices[0].delta.tool_calls
    ]
    assert [[call.index for call in calls] for calls in deltas] == [[0], [1]]
    (weather,), (clock,) = deltas
    assert weather.id != clock.id
    assert weather.function is not None
    assert clock.function is not None
    assert (weather.function.name, clock.function.name) == ("get_weather", "get_time")
    assert list(json.loads(weather.function.arguments or "")) == ["city"]
    assert list(json.loads(clock.function.arguments or "")) == ["zone"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    final = gateway.helper_stream(WEATHER_AND_CLOCK_CALLS, model=model, tools=[WEATHER, CLOCK])
    assert [call.function.name for call in calls_of(final)] == [
        "get_weather",
        "get_time",
    ]


@pytest.mark.parametrize("order", [PING_CALL, '[[sim call=ping args="{}"]]'])
def test_10_a_call_without_arguments_has_an_empty_object(gateway: Gateway, order: str) -> None:
    for tool in (PING, function("ping", {})):
        (call,) = calls_of(gateway.chat(order, tools=[tool]))
        assert call.function.arguments == "{}"
    final = gateway.helper_stream(order, tools=[PING])
    (call,) = calls_of(final)
    assert call.function.arguments == "{}"


ALLOWED = {"tools": [{"type": "function", "function": {"name": "get_time"}}]}


@pytest.mark.parametrize(
    ("choice", "mode", "names"),
    [
        ("none", "NONE", None),
        ("auto", "AUTO", None),
        ("required", "ANY", None),
        ({"type": "function", "function": {"name": "get_time"}}, "ANY", ["get_time"]),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", **ALLOWED}},
            "ANY",
            ["get_time"],
        ),
    ],
)
def test_20_tool_choice_becomes_a_mode(
    gateway: Gateway, choice: Any, mode: str, names: Sequence[str] | None
) -> None:
    answer = gateway.chat("choose", tools=[WEATHER, CLOCK], tool_choice=choice)

    (body,) = gateway.upstream()
    calling = body["toolConfig"]["functionCallingConfig"]
    assert calling["mode"] == mode
    assert calling.get("allowedFunctionNames") == names
    called = {call.function.name for call in calls_of(answer)}
    assert called == (set(names or ["get_weather"]) if mode == "ANY" else set())


def test_20_allowed_tools_that_may_be_left_are_the_only_ones_declared(gateway: Gateway) -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", **ALLOWED}}
    gateway.chat("choose", tools=[WEATHER, CLOCK], tool_choice=choice)

    (body,) = gateway.upstream()
    declared = [entry for tool in body["tools"] for entry in tool["functionDeclarations"]]
    assert [entry["name"] for entry in declared] == ["get_time"]


def test_20_a_named_tool_must_be_there(gateway: Gateway) -> None:
    choice = {"type": "function", "function": {"name": "get_stock"}}
    error = gateway.refusal("choose", tools=[WEATHER], tool_choice=choice)

    assert (error.status_code, error.param) == (400, "tool_choice")
    assert gateway.upstream_count() == 0


def test_21_one_call_at_a_time_if_so_asked(gateway: Gateway) -> None:
    options: dict[str, Any] = {"tools": [WEATHER, CLOCK], "parallel_tool_calls": False}

    answer = gateway.chat(WEATHER_AND_CLOCK_CALLS, **options)
    final = gateway.helper_stream(WEATHER_AND_CLOCK_CALLS, **options)

    assert [call.function.name for call in calls_of(answer)] == ["get_weather"]
    assert [call.function.name for call in calls_of(final)] == ["get_weather"]


def test_22_legacy_functions_are_answered_in_their_own_form(gateway: Gateway) -> None:
    functions = [WEATHER["function"]]
    question = user(f"Oslo {WEATHER_CALL}")

    answer = gateway.chat(question, functions=functions, function_call="auto")
    chunks = gateway.stream(question, functions=functions)

    message = answer.choices[0].message
    assert message.tool_calls is None
    assert message.function_call is not None
    assert message.function_call.name == "get_weather"
    assert json.loads(message.function_call.arguments) == {"city": "Oslo"}
    assert answer.choices[0].finish_reason == "function_call"
    assert chunks[-1].choices[0].finish_reason == "function_call"
    (called,) = [
        chunk.choices[0].delta.function_call
        for chunk in chunks
        if chunk.choices[0].delta.function_call
    ]
    assert called.name == "get_weather"
    history = [
        *question,
        message,
        {"role": "function", "name": "get_weather", "content": "3 degrees"},
    ]
    again = gateway.chat(history, functions=functions)
    assert again.choices[0].finish_reason == "stop"
    *_, body = gateway.upstream(3)
    (response,) = parts_of(body, "functionResponse")
    assert response["functionResponse"]["name"] == "get_weather"


def test_22_legacy_and_present_form_exclude_each_other(gateway: Gateway) -> None:
    error = gateway.refusal("hi", functions=[WEATHER["function"]], tools=[WEATHER])

    assert isinstance(error, openai.BadRequestError)
    assert gateway.upstream_count() == 0


@MODELS
def test_26_a_schema_and_tools_go_together(gateway: Gateway, model: str) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    options: dict[str, Any] = {
        "tools": [WEATHER],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "place", "schema": schema, "strict": True},
        },
    }

    called = gateway.chat(f"Oslo {WEATHER_CALL}", model=model, **options)
    gateway.chat("Just tell me", model=model, **options)

    assert called.choices[0].finish_reason == "tool_calls"
    for body in gateway.upstream(2):
        asked = json.dumps(body.get("systemInstruction")) + json.dumps(body["generationConfig"])
        assert "additionalProperties" in asked
