"""Errors as openai-python's classes, and which of them it retries."""

from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletion

from clients.gateway import FLASH_25, Gateway, another_proxy
from support.stack import CLIENT_KEY, GEMINI_KEY, Stack


def ask(client: openai.OpenAI, model: str = FLASH_25) -> ChatCompletion:
    """Ask for a short answer."""
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])


@pytest.mark.parametrize("key", ["sk-wrong-0000000000000000", CLIENT_KEY[:-1], CLIENT_KEY + "0"])
def test_46_a_wrong_key_is_refused_at_once(gateway: Gateway, key: str) -> None:
    client = gateway.client(api_key=key, max_retries=2)

    with pytest.raises(openai.AuthenticationError) as caught:
        ask(client)

    assert caught.value.code == "invalid_api_key"
    assert caught.value.type == "authentication_error"
    assert key not in str(caught.value)
    assert gateway.upstream_count() == 0


def test_47_the_gateways_own_key_trouble_is_not_the_clients(stack: Stack, tmp_path: Path) -> None:
    key = "invalid-canary-3f9b7d21c0"
    with another_proxy(stack, tmp_path, {"GEMINI_API_KEY": key}) as gateway:
        with pytest.raises(openai.InternalServerError) as caught:
            ask(gateway.client())
        with pytest.raises(openai.InternalServerError) as streamed:
            gateway.stream("hi")

    for error in (caught.value, streamed.value):
        assert error.status_code == 502
        assert error.code == "upstream_auth_error"
        assert key not in error.response.text
        assert "API key" not in error.message


@pytest.mark.parametrize(
    "error", ["unauthenticated", "permission_denied", "leaked_key", "invalid_key"]
)
def test_47_no_refusal_of_the_upstream_key_is_shown_as_401(gateway: Gateway, error: str) -> None:
    refused = gateway.refusal(f"hi [[sim error={error}]]")

    assert isinstance(refused, openai.InternalServerError)
    assert refused.code == "upstream_auth_error"
    assert GEMINI_KEY not in refused.response.text


def test_47_another_key_takes_over(stack: Stack, tmp_path: Path) -> None:
    keys = "invalid-canary-3f9b7d21c0,AIzaSecondKey00000000000000"
    with another_proxy(stack, tmp_path, {"GEMINI_API_KEY": keys}) as gateway:
        for _ in range(4):
            assert ask(gateway.client()).choices[0].finish_reason == "stop"
    statuses = [entry["status"] for entry in stack.wait_for_upstream(ended="true")]

    assert statuses.count(200) == 4
    assert statuses.count(400) <= 1


def test_48_an_unknown_model(gateway: Gateway) -> None:
    client = gateway.client(max_retries=2)

    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "gemini-0.1")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("gemini-0.1")
    assert missing.value.code == "model_not_found"
    assert gateway.upstream_count(path_part="gemini-0.1") == 0


def test_49_a_short_limit_is_waited_for(gateway: Gateway) -> None:
    gateway.fault(error="quota_minute", retry_delay=1)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(gateway.client())
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.type == "rate_limit_error"
    assert caught.value.response.headers["retry-after"] == "1"
    assert caught.value.response.headers.get("x-should-retry") != "false"
    gateway.upstream(1)

    gateway.fault(error="quota_minute", retry_delay=1)
    answer = ask(gateway.client(max_retries=2))

    assert answer.choices[0].finish_reason == "stop"
    gateway.upstream(3)


def test_49_too_long_a_limit_is_not_waited_for(gateway: Gateway) -> None:
    gateway.fault(error="quota_minute", retry_delay=90, times=3)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(gateway.client(max_retries=2))

    assert "retry-after" not in caught.value.response.headers
    assert caught.value.response.headers["x-should-retry"] == "false"
    gateway.upstream(1)


def test_50_a_daily_quota_is_not_retried(gateway: Gateway) -> None:
    gateway.fault(error="quota_day", times=3)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(gateway.client(max_retries=2))

    assert caught.value.code == "insufficient_quota"
    assert caught.value.response.headers["x-should-retry"] == "false"
    gateway.upstream(1)


def test_55_too_long_an_input(gateway: Gateway) -> None:
    error = gateway.refusal("hi [[sim error=token_limit]]")

    assert isinstance(error, openai.BadRequestError)
    assert (error.code, error.param) == ("context_length_exceeded", "messages")
    assert "maximum context length is 1048576 tokens" in error.message
