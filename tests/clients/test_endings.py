"""How answers end that don't end well, and streams that are left, with openai-python."""

import threading
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from ai_proxy_service.api.event_stream import PING_SECONDS
from clients.gateway import FLASH_25, WEATHER, Gateway, another_proxy, user
from support.stack import Stack


class Anything(BaseModel):
    text: str


@pytest.mark.parametrize("order", ["block=SAFETY", "block=PROHIBITED_CONTENT", "finish=SAFETY"])
def test_43_a_block_is_an_answer_that_refuses(gateway: Gateway, order: str) -> None:
    text = f"something bad [[sim {order}]]"
    answer = gateway.chat(text)
    chunks = gateway.stream(text)

    (choice,) = answer.choices
    assert choice.finish_reason == "content_filter"
    assert not choice.message.content
    assert chunks[-1].choices[0].finish_reason == "content_filter"
    if order.startswith("block"):
        reason = order.removeprefix("block=")
        assert choice.message.content is None
        assert reason in (choice.message.refusal or "")
        refusals = [chunk.choices[0].delta.refusal for chunk in chunks]
        assert reason in "".join(text for text in refusals if text)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 0
    asked: Any = user(text)
    with pytest.raises(openai.ContentFilterFinishReasonError):
        gateway.client().chat.completions.parse(
            model=FLASH_25, messages=asked, response_format=Anything
        )


def test_43_the_text_before_a_block_is_kept(gateway: Gateway) -> None:
    answer = gateway.chat("tell [[sim finish=RECITATION tokens=5]]")

    assert answer.choices[0].finish_reason == "content_filter"
    assert answer.choices[0].message.content


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE"])
@pytest.mark.parametrize("streamed", [False, True])
def test_45_a_broken_answer_is_asked_for_once_more(
    gateway: Gateway, reason: str, *, streamed: bool
) -> None:
    gateway.fault(finish=reason, tokens=0, thoughts=0)
    ask: Any = gateway.helper_stream if streamed else gateway.chat

    answer = ask("Oslo", tools=[WEATHER])

    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content
    gateway.upstream(2)


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
@pytest.mark.parametrize("streamed", [False, True])
def test_45_an_answer_that_stays_broken_is_an_error(
    gateway: Gateway, reason: str, *, streamed: bool
) -> None:
    ask: Any = gateway.stream if streamed else gateway.chat

    with pytest.raises(openai.InternalServerError) as caught:
        ask(f"Oslo [[sim finish={reason} tokens=0 thoughts=0]]", tools=[WEATHER])

    assert caught.value.status_code == 502
    assert caught.value.type == "server_error"
    assert caught.value.code == reason.lower()
    gateway.upstream(2)


def test_45_a_broken_answer_in_mid_stream_is_an_error_at_once(gateway: Gateway) -> None:
    gateway.stack.release("breaking", 2)
    order = "[[sim finish=MALFORMED_FUNCTION_CALL tokens=5 thoughts=0 gate=breaking]]"
    stream = gateway.client(max_retries=2).chat.completions.create(
        model=FLASH_25, messages=[{"role": "user", "content": f"Oslo {order}"}], stream=True
    )
    next(chunk for chunk in stream if chunk.choices[0].delta.content)
    gateway.stack.open_gate("breaking")

    with pytest.raises(openai.APIError) as caught:
        list(stream)

    assert caught.value.code == "malformed_function_call"
    gateway.upstream(1)


def test_51_an_overload_before_the_stream_is_retried_by_the_client(gateway: Gateway) -> None:
    gateway.fault(error="overloaded")
    with pytest.raises(openai.InternalServerError) as caught:
        gateway.stream("hi")
    assert caught.value.status_code == 503
    assert caught.value.code == "server_is_overloaded"
    assert 2 <= float(caught.value.response.headers["retry-after"]) <= 5
    gateway.upstream(1)

    gateway.fault(error="overloaded")
    chunks = list(
        gateway.client(max_retries=2).chat.completions.create(
            model=FLASH_25, messages=[{"role": "user", "content": "hi"}], stream=True
        )
    )

    assert chunks[-1].choices[0].finish_reason == "stop"
    gateway.upstream(3)


@pytest.mark.parametrize("form", ["bare", "data"])
def test_51_an_overload_in_mid_stream_is_raised_and_not_retried(
    gateway: Gateway, form: str
) -> None:
    stream = gateway.client(max_retries=2).chat.completions.create(
        model=FLASH_25,
        messages=[{"role": "user", "content": f"hi [[sim error_after=3 error_form={form}]]"}],
        stream=True,
    )
    texts: list[str | None] = []
    with pytest.raises(openai.APIError) as caught:
        texts.extend(chunk.choices[0].delta.content for chunk in stream)

    assert [text for text in texts if text]
    assert not isinstance(caught.value, openai.APIStatusError)
    assert caught.value.code == "server_is_overloaded"
    assert caught.value.type == "service_unavailable_error"
    gateway.upstream(1)


@pytest.mark.parametrize(
    "order",
    ["cut_after=4", "garbage_after=4", "finish=none tokens=5", "finish=none tokens=5 usage=none"],
)
def test_52_a_torn_stream_is_an_error_not_a_short_success(gateway: Gateway, order: str) -> None:
    choices: list[Any] = []
    stream = gateway.client(max_retries=2).chat.completions.create(
        model=FLASH_25,
        messages=[{"role": "user", "content": f"hi [[sim {order}]]"}],
        stream=True,
    )
    with pytest.raises(openai.APIError) as caught:
        choices.extend(chunk.choices[0] for chunk in stream)

    assert [choice for choice in choices if choice.delta.content]
    assert {choice.finish_reason for choice in choices} == {None}
    assert caught.value.code in {"upstream_error", "server_is_overloaded"}
    gateway.upstream(1)


@pytest.mark.parametrize("order", ["hang_up", "no_candidates", "finish=none tokens=0 thoughts=0"])
def test_52_no_answer_at_all_is_an_error(gateway: Gateway, order: str) -> None:
    with pytest.raises(openai.InternalServerError):
        gateway.chat(f"hi [[sim {order}]]")
    with pytest.raises(openai.APIError):
        gateway.stream(f"hi [[sim {order}]]")


def test_53_pings_come_while_gemini_is_silent(gateway: Gateway) -> None:
    """The silence lasts for two pings, which is longer than the client waits for one byte."""
    text = "hi [[sim tokens=5 thoughts=0 gate={gate}]]"
    for gate in ("silent", "watched"):
        gateway.stack.release(gate, 2)
    watcher = threading.Thread(
        target=open_gate_after_two_pings, args=(gateway, text.format(gate="watched"))
    )
    watcher.start()
    client = gateway.client(timeout=1.5 * PING_SECONDS)

    chunks = list(
        client.chat.completions.create(
            model=FLASH_25,
            messages=[{"role": "user", "content": text.format(gate="silent")}],
            stream=True,
        )
    )
    watcher.join()

    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len([chunk for chunk in chunks if chunk.choices[0].delta.content]) == 5


def open_gate_after_two_pings(gateway: Gateway, text: str) -> None:
    """Watch a stream that is as silent as the other, and end both silences after two pings."""
    pings = 0
    body = {"model": FLASH_25, "messages": user(text), "stream": True}
    with gateway.plain().stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            pings += line == ": ping"
            if pings == 2:
                break
    for gate in ("silent", "watched"):
        gateway.stack.open_gate(gate)


def leave_in_mid_answer(gateway: Gateway, gate: str) -> None:
    """Open a stream of ten tokens, with the gate's name as request id, and close it after one."""
    gateway.stack.release(gate, 2)
    stream = gateway.client().chat.completions.create(
        model=FLASH_25,
        messages=[{"role": "user", "content": f"hi [[sim tokens=10 thoughts=0 gate={gate}]]"}],
        stream=True,
        extra_headers={"x-request-id": gate},
    )
    next(chunk for chunk in stream if chunk.choices[0].delta.content)
    gateway.stack.wait_at_gate(gate)
    stream.close()


@pytest.mark.one_proxy("it reads the log of the proxy that it asks")
def test_54_drain_reads_to_the_end_what_the_client_has_left(gateway: Gateway) -> None:
    leave_in_mid_answer(gateway, "drained")
    gateway.stack.proxy.wait_for_event(event="client_left", request_id="drained")
    gateway.stack.open_gate("drained")

    (request,) = gateway.stack.wait_for_upstream(count="1", ended="true")

    assert (request["state"], request["tokens"]) == ("completed", 10)


def test_54_cancel_closes_the_request_to_gemini(stack: Stack, tmp_path: Path) -> None:
    with another_proxy(stack, tmp_path, {"ON_DISCONNECT": "cancel"}) as gateway:
        leave_in_mid_answer(gateway, "cancelled")

        (request,) = stack.wait_for_upstream(count="1", ended="true")

    assert request["state"] == "disconnected"
    stack.open_gate("cancelled")
