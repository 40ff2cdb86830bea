"""Conversations with tool calls in them, as clients send them back, with openai-python."""

from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from clients.calls import call_message, calls_of, parts_of
from clients.gateway import (
    ACCOUNT,
    FLASH_3,
    FLASH_25,
    FLASH_38,
    SENTINEL,
    WEATHER,
    WEATHER_CALL,
    Gateway,
    another_proxy,
    function,
    result,
    user,
)
from support.stack import Stack

MODELS = pytest.mark.parametrize("model", [FLASH_25, FLASH_3, FLASH_38])


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
