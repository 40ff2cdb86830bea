"""The limits of issued keys on the running system; over processes: test_shared_limits.py."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from support.key_holders import CHAT, ask, issue, two_proxies
from support.stack import MODEL, Stack, say


def until(what: Callable[[], bool]) -> None:
    """Ask until it is so; the test's time limit ends this."""
    while not what():
        time.sleep(0.01)


def stream_at(gate: str) -> dict[str, Any]:
    """Return a request for a stream that stands at a gate after its first token."""
    messages = say(f"[[sim tokens=5 stall_after=1 gate={gate}]]")
    return {"model": MODEL, "messages": messages, "stream": True}


def limits_in(answer: httpx.Response) -> dict[str, str]:
    """Return what the headers say of limits."""
    start = "x-ratelimit-"
    return {
        name.removeprefix(start): value
        for name, value in answer.headers.items()
        if name.startswith(start)
    }


def test_tokens_of_answers_use_up_the_minute_and_each_answer_tells_how_far(stack: Stack) -> None:
    key = issue(stack, stack.account("1"), tpm=100)["key"]
    usages: list[int] = []

    answers = [ask(stack.proxy.url, key)]
    while answers[-1].status_code == 200:
        usages.append(answers[-1].json()["usage"]["total_tokens"])
        answers.append(ask(stack.proxy.url, key))

    assert sum(usages[:-1]) < 100 <= sum(usages)
    told = [int(limits_in(answer)["remaining-tokens"]) for answer in answers]
    assert told == [max(0, 100 - sum(usages[:number])) for number in range(len(answers))]
    assert {limits_in(answer)["limit-tokens"] for answer in answers} == {"100"}
    assert limits_in(answers[-1]).keys() == {"limit-tokens", "remaining-tokens", "reset-tokens"}
    assert "100 tokens per minute (TPM)" in answers[-1].json()["error"]["message"]


def test_embeddings_and_prompts_of_the_old_form_use_tokens_too(stack: Stack) -> None:
    key = issue(stack, stack.account("1"), scopes=["chat", "embeddings"], tpm=1_000_000)["key"]
    client = stack.http(stack.proxy.url, key)
    bodies = {
        "/v1/completions": {"model": MODEL, "prompt": "hi"},
        "/v1/embeddings": {"model": "gemini-embedding-001", "input": "hi"},
        "/v1/quote": CHAT,
    }

    answers = [client.post(path, json=body) for path, body in bodies.items()]

    first, second, third = (int(limits_in(answer)["remaining-tokens"]) for answer in answers)
    assert first == 1_000_000
    assert first - second == answers[0].json()["usage"]["total_tokens"]
    assert second - third == answers[1].json()["usage"]["total_tokens"]


def test_what_costs_nothing_to_ask_is_not_limited(stack: Stack) -> None:
    key = issue(stack, stack.account("1"), scopes=["models"], rpm=1)["key"]
    client = stack.http(stack.proxy.url, key)

    answers = [client.get("/v1/models") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert [limits_in(answer) for answer in answers] == [{}] * 3


def test_so_many_streams_run_at_once_also_those_whose_client_has_left(stack: Stack) -> None:
    account = stack.account("1")
    key = issue(stack, account, max_concurrent=2)["key"]
    client = stack.openai(key=key)
    left, read = f"{account}-left", f"{account}-read"

    def abandoned() -> int:
        figures = stack.http(stack.proxy.url, None).get("/metrics").json()
        return int(figures["streams"]["abandoned"])

    before = abandoned()
    streams = [client.chat.completions.create(**stream_at(gate)) for gate in (left, read)]
    for gate in (left, read):
        stack.wait_at_gate(gate)
    third = ask(stack.proxy.url, key)
    streams[0].close()
    until(lambda: abandoned() > before)
    while_one_is_read_on = ask(stack.proxy.url, key)
    stack.open_gate(left)
    until(lambda: ask(stack.proxy.url, key).status_code == 200)
    stack.open_gate(read)
    list(streams[1])

    assert third.status_code == while_one_is_read_on.status_code == 429
    assert "2 concurrent requests" in third.json()["error"]["message"]
    assert third.headers["retry-after"] == "1"


def test_without_its_redis_a_proxy_goes_on_and_limits_by_itself(
    stack: Stack, tmp_path: Path
) -> None:
    key = issue(stack, stack.account("1"), rpm=2)["key"]
    uri = SecretStr("redis://127.0.0.1:9")
    with two_proxies(stack, tmp_path, rate_limit_storage_uri=uri) as urls:
        statuses = [ask(url, key).status_code for url in urls for _ in range(3)]

    assert statuses == [200, 200, 429] * 2
