"""Tool calls in all their forms, there and back, with openai-python."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionMessageToolCall

from clients.gateway import (
    ACCOUNT,
    CLOCK,
    FLASH_3,
    FLASH_25,
    FLASH_38,
    SENTINEL,
    WEATHER,
    WEATHER_AND_CLOCK_CALLS,
    WEATHER_CALL,
    Gateway,
    another_proxy,
    function,
    result,
    user,
)
from support.stack import Stack

MODELS = pytest.mark.parametrize("model", [FLASH_25, FLASH_3, FLASH_38])
PING = function("ping")
PING_CALL = "[[sim call=ping]]"


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


@MODELS
@pytest.mark.parametrize("form", ["object", "dump", "streamed"])
def test_11_an_echoed_message_brings_the_real_signature_back(
    gateway: Gateway, model: str, form: str
) -> None:
    question = user(f"Oslo {WEATHER_CALL}")
    ask = gateway.helper_stream if form == "streamed" else gateway.chat
    called = ask(question, model=model, tools=[WEATHER])
    message = called.choices[0].message
    (call,) = calls_of(called)
    echoed: Any = message if form == "object" else message.model_dump()
    history = [*question, echoed, result(call.id, '{"celsius": 3}')]

    answer = gateway.chat(history, model=model, tools=[WEATHER])

    assert answer.choices[0].finish_reason == "stop"
    extra = call.model_extra or {}
    signature = extra["extra_content"]["google"]["thought_signature"]
    _, body = gateway.upstream(2)
    (sent,) = parts_of(body, "functionCall")
    assert sent["thoughtSignature"] == signature
    assert sent["functionCall"] == {
        "id": call.id,
        "name": "get_weather",
        "args": {"city": "Oslo"},
    }
    (response,) = parts_of(body, "functionResponse")
    assert response["functionResponse"] == {
        "id": call.id,
        "name": "get_weather",
        "response": {"celsius": 3},
    }


def without_extras(answer: ChatCompletion) -> dict[str, Any]:
    """Return the answer's message as a client sends it back that drops unknown fields."""
    return call_message(
        *((call.id, call.function.name) for call in calls_of(answer)),
        arguments=calls_of(answer)[0].function.arguments,
    )


def test_13_a_restarted_proxy_still_knows_signatures_from_its_file(
    stack: Stack, tmp_path: Path
) -> None:
    question = user(f"Oslo {WEATHER_CALL}")
    with another_proxy(stack, tmp_path, {}) as gateway:
        first = gateway.chat(question, model=FLASH_38, tools=[WEATHER])
    history = [*question, without_extras(first), result(calls_of(first)[0].id, "3 degrees")]
    with another_proxy(stack, tmp_path, {}) as gateway:
        answer = gateway.chat(history, model=FLASH_38, tools=[WEATHER])
        _, body = gateway.upstream(2)

    assert answer.choices[0].finish_reason == "stop"
    extra = calls_of(first)[0].model_extra or {}
    (sent,) = parts_of(body, "functionCall")
    assert sent["thoughtSignature"] == extra["extra_content"]["google"]["thought_signature"]


def test_13_a_proxy_that_has_forgotten_uses_the_sentinel(stack: Stack, tmp_path: Path) -> None:
    question = user(f"Oslo {WEATHER_CALL}")
    settings = {"CALL_MEMORY_URI": "memory://"}
    with another_proxy(stack, tmp_path, settings) as gateway:
        first = gateway.chat(question, model=FLASH_38, tools=[WEATHER])
    history = [*question, without_extras(first), result(calls_of(first)[0].id, "3 degrees")]
    with another_proxy(stack, tmp_path, settings) as gateway:
        answer = gateway.chat(history, model=FLASH_38, tools=[WEATHER])
        _, body = gateway.upstream(2)

    assert answer.choices[0].finish_reason == "stop"
    (sent,) = parts_of(body, "functionCall")
    assert sent["thoughtSignature"] == SENTINEL


def test_13_another_accounts_signatures_are_not_used(gateway: Gateway) -> None:
    question = user(f"Oslo {WEATHER_CALL}")
    first = gateway.chat(question, model=FLASH_38, tools=[WEATHER])
    history = [*question, without_extras(first), result(calls_of(first)[0].id, "3 degrees")]
    other = gateway.stack.account("1")

    gateway.chat(history, model=FLASH_38, tools=[WEATHER], user=other)
    gateway.chat(history, model=FLASH_38, tools=[WEATHER], user=ACCOUNT)

    _, foreign, own = gateway.upstream(3)
    assert parts_of(foreign, "functionCall")[0]["thoughtSignature"] == SENTINEL
    assert parts_of(own, "functionCall")[0]["thoughtSignature"] != SENTINEL


@MODELS
def test_17_results_are_one_turn_in_the_order_of_the_calls(gateway: Gateway, model: str) -> None:
    history = [
        *user("do all three"),
        call_message(("call_a", "first"), ("call_b", "second"), ("call_c", "third")),
        *(result(call_id, f"done {call_id}") for call_id in ("call_c", "call_a", "call_b")),
    ]
    tools = [function(name) for name in ("first", "second", "third")]

    answer = gateway.chat(history, model=model, tools=tools)

    assert answer.choices[0].finish_reason == "stop"
    (body,) = gateway.upstream()
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]
    responses = [part["functionResponse"] for part in body["contents"][2]["parts"]]
    assert responses == [
        {"id": call_id, "name": name, "response": {"output": f"done {call_id}"}}
        for call_id, name in (("call_a", "first"), ("call_b", "second"), ("call_c", "third"))
    ]


def test_18_a_call_without_its_result_is_refused(gateway: Gateway) -> None:
    calls = call_message(("call_a", "first"), ("call_b", "second"))
    for after in ([result("call_a", "done")], [], [result("call_a", "done"), *user("go on")]):
        error = gateway.refusal([*user("do it"), calls, *after], tools=[function("first")])

        assert isinstance(error, openai.BadRequestError)
        assert error.param == "messages"
        assert "tool_call" in error.message
    assert gateway.upstream_count() == 0


def test_19_a_result_of_an_unknown_call_is_refused(gateway: Gateway) -> None:
    history = [
        *user("do it"),
        call_message(("call_a", "first")),
        result("call_a", "done"),
        result("call_x", "done"),
    ]
    error = gateway.refusal(history, tools=[function("first")])

    assert isinstance(error, openai.BadRequestError)
    assert error.param == "messages[3].tool_call_id"
    assert gateway.upstream_count() == 0


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
