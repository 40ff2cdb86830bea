"""The limits of issued keys on the running system, over several proxies, and when one is killed."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import redis
from pydantic import SecretStr

from ai_proxy_service.services.key_limit_redis import SLOT_SECONDS
from support.key_holders import CHAT, ask, issue, two_proxies
from support.processes import ServiceProcess
from support.redis_wire import require_redis
from support.stack import MODEL, TIMEOUT_SECONDS, Stack, proxy_env, say

RPM = 100
REQUESTS = 300
# A busy machine must not look like a dead store.
PATIENT_SECONDS = 10


@pytest.fixture
def redis_url() -> str:
    """Return a Redis that answers."""
    return require_redis()


def patient(redis_url: str) -> dict[str, Any]:
    """Return the settings of a proxy that counts in a Redis and gives it time."""
    return {
        "rate_limit_storage_uri": SecretStr(redis_url),
        "rate_limit_store_timeout_seconds": PATIENT_SECONDS,
    }


def until(what: Callable[[], bool]) -> None:
    """Ask until it is so; the test's time limit ends this."""
    while not what():
        time.sleep(0.01)


def client_of(url: str, key: str) -> openai.OpenAI:
    """Return the official client of a proxy."""
    return openai.OpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0, timeout=TIMEOUT_SECONDS)


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


def test_two_proxies_admit_exactly_what_a_key_may_ask_in_a_minute(
    stack: Stack, tmp_path: Path, redis_url: str
) -> None:
    account = stack.account("1")
    key = issue(stack, account, rpm=RPM)["key"]
    headers = {"authorization": f"Bearer {key}"}
    with (
        two_proxies(stack, tmp_path, **patient(redis_url)) as urls,
        httpx.Client(headers=headers, timeout=TIMEOUT_SECONDS) as client,
        ThreadPoolExecutor(16) as threads,
    ):
        paths = [f"{urls[number % 2]}/v1/chat/completions" for number in range(REQUESTS)]
        answers = list(threads.map(lambda path: client.post(path, json=CHAT), paths))

    assert Counter(answer.status_code for answer in answers) == {
        200: RPM,
        429: REQUESTS - RPM,
    }
    assert len(stack.transactions(account)) == RPM
    for answer in answers:
        told = limits_in(answer)
        assert told["limit-requests"] == str(RPM)
        assert told["reset-requests"].endswith("s")
        if answer.status_code == 429:
            assert told["remaining-requests"] == "0"
            error = answer.json()["error"]
            assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
            assert f"{RPM} requests per minute (RPM)" in error["message"]
            assert 0 < int(answer.headers["retry-after"]) <= 60


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


def test_slots_of_a_proxy_that_was_killed_come_back(
    stack: Stack, tmp_path: Path, redis_url: str
) -> None:
    account = stack.account("1")
    issued = issue(stack, account, max_concurrent=1)
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    env = {
        **proxy_env(urls, tmp_path / "killed"),
        "RATE_LIMIT_STORAGE_URI": redis_url,
        "RATE_LIMIT_STORE_TIMEOUT_SECONDS": str(PATIENT_SECONDS),
    }
    with two_proxies(stack, tmp_path, **patient(redis_url)) as (url, _):
        with (
            ServiceProcess("ai-proxy-service", env, cwd=tmp_path) as doomed,
            client_of(doomed.url, issued["key"]) as client,
        ):
            client.chat.completions.create(**stream_at(account))
            stack.wait_at_gate(account)
            while_it_runs = ask(url, issued["key"])
            doomed.kill()
        stack.open_gate(account)
        just_killed = ask(url, issued["key"])
        with closing(redis.Redis.from_url(redis_url)) as store:
            slots = f"ai-proxy:limits:{{{issued['key_id']}}}:slots"
            used: Any = store.zrange(slots, 0, -1, withscores=True)
            [(slot, ends_at)] = used
            # As if the time until then had passed.
            store.zadd(slots, {slot: 1})
        afterwards = ask(url, issued["key"])

    assert while_it_runs.status_code == just_killed.status_code == 429
    assert 0 < ends_at - time.time() <= SLOT_SECONDS
    assert afterwards.status_code == 200


def test_without_its_redis_a_proxy_goes_on_and_limits_by_itself(
    stack: Stack, tmp_path: Path
) -> None:
    key = issue(stack, stack.account("1"), rpm=2)["key"]
    uri = SecretStr("redis://127.0.0.1:9")
    with two_proxies(stack, tmp_path, rate_limit_storage_uri=uri) as urls:
        statuses = [ask(url, key).status_code for url in urls for _ in range(3)]

    assert statuses == [200, 200, 429] * 2
