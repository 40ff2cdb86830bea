"""Every kind of 429 says which limit was reached, by how much, and when to try again."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from support.key_holders import issue
from support.live_server import live_server
from support.proxy_app import proxy_app
from support.stack import CLIENT_KEY, MODEL, SERVICE_KEY, TIMEOUT_SECONDS, Stack, say
from support.worker_proxies import new_address

PER_MINUTE = 3
COMPLETIONS_PER_MINUTE = 2
SECONDS_MAX = 61


@pytest.fixture
def proxy_url(stack: Stack, tmp_path: Path) -> Iterator[str]:
    """A proxy with low limits, which believes `X-Forwarded-For`."""
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    app = proxy_app(
        urls,
        SERVICE_KEY,
        tmp_path,
        rate_limit_enabled=True,
        rate_limit_per_minute=PER_MINUTE,
        rate_limit_completions_per_minute=COMPLETIONS_PER_MINUTE,
    )
    with live_server(ProxyHeadersMiddleware(app, "127.0.0.1")) as url:  # type: ignore[arg-type]  # ASGI as uvicorn declares it
        yield url


def client_of(url: str, key: str) -> openai.OpenAI:
    """Return the official client, at an address of its own."""
    return openai.OpenAI(
        api_key=key,
        base_url=f"{url}/v1",
        max_retries=0,
        timeout=TIMEOUT_SECONDS,
        default_headers={"x-forwarded-for": new_address()},
    )


def complete(client: openai.OpenAI, account: str) -> None:
    """Ask for a short answer."""
    client.chat.completions.create(model=MODEL, messages=say("hi"), user=account)


def refusal_of(caught: pytest.ExceptionInfo[openai.RateLimitError]) -> tuple[str, dict[str, str]]:
    """Check what all refusals have in common; return what was reached, and what is told of it."""
    error, headers = caught.value, caught.value.response.headers
    body: Any = error.body
    assert (body["type"], body["code"], body["param"]) == (
        "rate_limit_error",
        "rate_limit_exceeded",
        None,
    )
    text = re.fullmatch(
        r"Rate limit reached(?: for this API key)?: (.+)\. Please try again in (\d+)s\.",
        body["message"],
    )
    assert text, body["message"]
    assert headers["retry-after"] == text[2]
    assert 0 < int(headers["retry-after-ms"]) <= 1000 * int(text[2]) <= 1000 * SECONDS_MAX
    told = {
        name.removeprefix("x-ratelimit-"): value
        for name, value in headers.items()
        if name.startswith("x-ratelimit-")
    }
    for name in [name for name in told if name.startswith("reset-")]:
        assert re.fullmatch(r"\d+ms|\d+s|\d+m\d+s", told.pop(name))
    return text[1], told


@pytest.mark.parametrize(
    ("limits", "expected", "told"),
    [
        pytest.param(
            None,
            f"{COMPLETIONS_PER_MINUTE} completions per minute for one IP address",
            {"limit-requests": str(COMPLETIONS_PER_MINUTE), "remaining-requests": "0"},
            id="completions of an address",
        ),
        pytest.param(
            {"rpm": 1},
            "1 requests per minute (RPM)",
            {"limit-requests": "1", "remaining-requests": "0"},
            id="requests of a key",
        ),
        pytest.param(
            {"tpm": 1},
            "1 tokens per minute (TPM)",
            {
                "limit-tokens": "1",
                "remaining-tokens": "0",
                "limit-requests": str(COMPLETIONS_PER_MINUTE),
                "remaining-requests": "0",
            },
            id="tokens of a key",
        ),
    ],
)
def test_a_limit_of_a_minute_names_itself(
    stack: Stack,
    proxy_url: str,
    limits: dict[str, int] | None,
    expected: str,
    told: dict[str, str],
) -> None:
    account = stack.account("1")
    key = CLIENT_KEY if limits is None else issue(stack, account, **limits)["key"]
    with client_of(proxy_url, key) as client:
        for _ in range(COMPLETIONS_PER_MINUTE if limits is None else 1):
            complete(client, account)
        with pytest.raises(openai.RateLimitError) as caught:
            complete(client, account)

    assert refusal_of(caught) == (expected, told)


def test_the_limit_on_all_requests_of_an_address_names_itself(proxy_url: str) -> None:
    with client_of(proxy_url, CLIENT_KEY) as client:
        for _ in range(PER_MINUTE):
            client.models.list()
        with pytest.raises(openai.RateLimitError) as caught:
            client.models.list()

    assert refusal_of(caught) == (
        f"{PER_MINUTE} requests per minute for one IP address",
        {"limit-requests": str(PER_MINUTE), "remaining-requests": "0"},
    )


def test_the_limit_on_requests_at_once_names_itself(stack: Stack, proxy_url: str) -> None:
    account = stack.account("1")
    key = issue(stack, account, rpm=60, max_concurrent=1)["key"]
    running = say(f"[[sim tokens=5 thoughts=0 chunk=1 stall_after=1 gate={account}]]")
    with client_of(proxy_url, key) as client:
        stream = client.chat.completions.create(model=MODEL, messages=running, stream=True)
        with pytest.raises(openai.RateLimitError) as caught:
            complete(client, account)
        stack.open_gate(account)
        list(stream)

    reached, told = refusal_of(caught)
    assert reached == "1 concurrent requests"
    assert caught.value.response.headers["retry-after"] == "1"
    # Not what was reached, but where the client stands with what else there is.
    assert told == {"limit-requests": str(COMPLETIONS_PER_MINUTE), "remaining-requests": "0"}
