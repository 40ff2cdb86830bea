"""Answers, streams, usage and the outer form of everything, with openai-python."""

import json
from typing import Any

import openai
import pytest

from clients.gateway import FLASH_25, FLASH_38, ON_CLUSTER, Gateway, assert_openai_error, user
from support.stack import CLIENT_KEY

USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}


def test_01_plain_answer(gateway: Gateway) -> None:
    answer = gateway.chat("hello there", extra_headers={"x-request-id": "check-01"})

    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert "hello there" in (choice.message.content or "")
    assert choice.finish_reason == "stop"
    assert answer._request_id == "check-01"
    assert answer.object == "chat.completion"
    assert answer.usage is not None
    counts = answer.usage
    assert counts.prompt_tokens > 0
    assert counts.completion_tokens > 0
    assert counts.total_tokens == counts.prompt_tokens + counts.completion_tokens


def test_02_stream_names_the_role_once_and_finishes_once(gateway: Gateway) -> None:
    chunks = gateway.stream("hello")

    roles = [chunk.choices[0].delta.role for chunk in chunks]
    assert roles[0] == "assistant"
    assert set(roles[1:]) == {None}
    finishes = [chunk.choices[0].finish_reason for chunk in chunks]
    assert finishes[-1] == "stop"
    assert set(finishes[:-1]) == {None}
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


def test_03_stream_helper_puts_the_message_together(gateway: Gateway) -> None:
    final = gateway.helper_stream('say [[sim answer="one two three"]]')

    assert final.choices[0].message.role == "assistant"
    assert final.choices[0].message.content == "one two three"
    assert final.choices[0].finish_reason == "stop"


def test_04_usage_comes_once_and_last(gateway: Gateway) -> None:
    chunks = gateway.stream("hello", **USAGE)

    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    for chunk in chunks[:-1]:
        assert chunk.choices
        assert "usage" in chunk.model_fields_set
        assert chunk.usage is None


def test_05_stream_without_include_usage_has_none(gateway: Gateway) -> None:
    chunks = gateway.stream("hello")

    assert all(chunk.choices[0].index == 0 for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)


def test_35_thinking_is_counted_within_the_completion(gateway: Gateway) -> None:
    answer = gateway.chat("think [[sim thoughts=30 tokens=5]]", reasoning_effort="high")
    *_, last = gateway.stream(
        "think [[sim thoughts=30 tokens=5]]", reasoning_effort="high", **USAGE
    )

    for usage in (answer.usage, last.usage):
        assert usage is not None
        assert usage.completion_tokens_details is not None
        assert usage.completion_tokens_details.reasoning_tokens == 30
        assert usage.completion_tokens == 35


OPTIONAL_FIELDS = (
    *("audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs"),
    *("max_completion_tokens", "max_tokens", "metadata", "modalities", "n"),
    *("parallel_tool_calls", "prediction", "presence_penalty", "reasoning_effort"),
    *("response_format", "seed", "service_tier", "stop", "store", "stream", "stream_options"),
    *("temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity"),
    *("web_search_options", "prompt_cache_key", "safety_identifier", "google", "extra_body"),
)


def test_41_unknown_fields_and_nulls_are_no_errors(gateway: Gateway) -> None:
    answer = gateway.chat("hello", extra_body=dict.fromkeys(OPTIONAL_FIELDS) | {"foo": 1})

    assert answer.choices[0].finish_reason == "stop"


def test_41_what_clients_add_to_echoed_messages_is_ignored(gateway: Gateway) -> None:
    message = gateway.chat("hello").choices[0].message
    extras = {"refusal": None, "annotations": None, "audio": None, "function_call": None}
    history = [
        *user("hello"),
        {**message.model_dump(), **extras, "parsed": None, "tool_calls": None},
        *user("and again"),
    ]

    answer = gateway.chat(history)

    assert "and again" in (answer.choices[0].message.content or "")


def test_42_stream_options_need_a_stream(gateway: Gateway) -> None:
    error = gateway.refusal("hello", **USAGE)

    assert isinstance(error, openai.BadRequestError)
    assert error.param == "stream_options"
    assert gateway.upstream_count() == 0


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/chat/completions", b'{"model": ', 400),
        ("POST", "/v1/chat/completions", b"[1, 2]", 400),
        ("POST", "/v1/chat/completions", b'{"model": 5, "messages": "x"}', 400),
        ("POST", "/v1/chat/completion", b"{}", 404),
        ("GET", "/v1/nothing/here", b"", 404),
        ("GET", "/v1/chat/completions", b"", 405),
        ("GET", "/v1/embeddings", b"", 405),
        ("DELETE", "/v1/completions", b"", 405),
    ],
)
def test_56_every_refusal_has_openais_form(
    gateway: Gateway, method: str, path: str, content: bytes, status: int
) -> None:
    answer = gateway.plain().request(
        method, path, content=content, headers={"content-type": "application/json"}
    )

    assert answer.status_code == status, answer.text
    assert answer.headers["x-request-id"]
    assert_openai_error(answer.json())


@pytest.mark.one_proxy("nginx shows nothing but /v1/")
def test_56_routes_exist_without_the_prefix_too(gateway: Gateway) -> None:
    client = gateway.client(base_url=gateway.url)

    assert FLASH_25 in [model.id for model in client.models.list()]
    answer = client.chat.completions.create(
        model=FLASH_25, messages=[{"role": "user", "content": "hi"}]
    )
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "order", ["", "thoughts=20", "split_bytes=7", "finish_chunk=absent", "call=f", "error_after=3"]
)
def test_57_raw_events_are_data_lines_and_comments_only(gateway: Gateway, order: str) -> None:
    body: dict[str, Any] = {
        "model": FLASH_38,
        "messages": user(f"héllo [[sim {order or 'tokens=20'}]]"),
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "stream": True,
    }
    answer = gateway.plain().post("/v1/chat/completions", json=body)

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    # It is for nginx, which keeps it to itself.
    assert answer.headers.get("x-accel-buffering") == (None if ON_CLUSTER else "no")
    assert "content-encoding" not in answer.headers
    assert b"\r" not in answer.content
    events = answer.text.removesuffix("\n\n").split("\n\n")
    assert events[-1] == "data: [DONE]"
    for event in events[:-1]:
        assert event.startswith(("data: {", ":")), event
        assert "\n" not in event
        if event.startswith("data: "):
            json.loads(event.removeprefix("data: "))


def test_60_models_are_named_without_prefix_and_found_with_it(gateway: Gateway) -> None:
    client = gateway.client()
    names = [model.id for model in client.models.list()]

    assert {FLASH_25, FLASH_38, "gemini-embedding-001"} <= set(names)
    assert not [name for name in names if "/" in name]
    assert client.models.retrieve(f"models/{FLASH_25}").id == FLASH_25
    assert client.models.retrieve(FLASH_38).object == "model"
    unauthorised = gateway.plain("sk-nobody-0000000000").get("/v1/models")
    assert unauthorised.status_code == 401
    assert CLIENT_KEY not in unauthorised.text
