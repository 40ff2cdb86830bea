"""Limits of a minute hold over two proxies of two workers each that share a Redis.

`SHARED_LIMITS_REQUESTS=1000` asks as often as that where 300 are asked for otherwise. All of them
have to be answered within a minute, as the limits admit more after that.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import redis

from support.key_holders import issue
from support.redis_wire import require_redis
from support.stack import CLIENT_KEY, MODEL, TIMEOUT_SECONDS, Stack, say
from support.worker_proxies import (
    CHAT_PATH,
    WORKERS,
    WorkerProxy,
    answered,
    ask_all,
    new_address,
    worker_proxies,
)

REQUESTS = int(os.environ.get("SHARED_LIMITS_REQUESTS", "300"))
PER_MINUTE = 100
COMPLETIONS_PER_MINUTE = 40
RPM = 100
STREAM_TOKENS = 5
# Of one machine: enough to use up the part of either worker.
MACHINE_REQUESTS = 200
# Its answers are five tokens long.
SHORT_CHAT = {"model": MODEL, "messages": say("[[sim tokens=5 thoughts=0]]"), "max_tokens": 9}


@pytest.fixture(scope="module")
def proxies(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[WorkerProxy]]:
    """Two proxies of two workers each."""
    settings = {
        "RATE_LIMIT_STORAGE_URI": require_redis(),
        "RATE_LIMIT_PER_MINUTE": str(PER_MINUTE),
        "RATE_LIMIT_COMPLETIONS_PER_MINUTE": str(COMPLETIONS_PER_MINUTE),
    }
    with worker_proxies(stack, tmp_path_factory.mktemp("shared"), settings) as proxies:
        yield proxies
        assert [proxy.store_errors() for proxy in proxies] == [0, 0], "the limits were not shared"


def statuses(answers: Sequence[httpx.Response]) -> Counter[int]:
    """Count the answers' statuses."""
    return Counter(answer.status_code for answer in answers)


def messages_of(answers: Sequence[httpx.Response]) -> set[str]:
    """Return what the refusals say, without the seconds."""
    return {
        re.sub(r" Please.*", "", answer.json()["error"]["message"])
        for answer in answers
        if answer.status_code == 429
    }


@pytest.mark.parametrize(
    ("what", "limit"), [("requests", PER_MINUTE), ("completions", COMPLETIONS_PER_MINUTE)]
)
def test_of_many_requests_of_one_address_exactly_the_limit_pass(
    stack: Stack, proxies: list[WorkerProxy], what: str, limit: int
) -> None:
    address = new_address()
    body = {**SHORT_CHAT, "user": stack.account("1")} if what == "completions" else None
    before = answered(proxies)

    answers = ask_all(proxies, REQUESTS, CLIENT_KEY, lambda: address, body)

    shares = answered(proxies) - before
    assert statuses(answers) == {200: limit, 429: REQUESTS - limit}
    assert messages_of(answers) == {
        f"Rate limit reached: {limit} {what} per minute for one IP address."
    }
    assert shares.total() == REQUESTS
    assert len(shares) == len(proxies) * WORKERS, "every worker has answered"


def test_of_many_requests_with_one_key_exactly_its_limit_pass_and_are_charged(
    stack: Stack, proxies: list[WorkerProxy]
) -> None:
    account = stack.account("1")
    issued = issue(stack, account, rpm=RPM)
    before = answered(proxies, status="200")

    answers = ask_all(proxies, REQUESTS, issued["key"], new_address, SHORT_CHAT)

    shares = answered(proxies, status="200") - before
    assert statuses(answers) == {200: RPM, 429: REQUESTS - RPM}
    assert messages_of(answers) == {
        f"Rate limit reached for this API key: {RPM} requests per minute (RPM)."
    }
    assert len(stack.transactions(account)) == RPM
    assert len(shares) == len(proxies) * WORKERS, "every worker has let some of them pass"


def test_tokens_of_all_workers_add_up_until_the_minute_is_used_up(
    stack: Stack, proxies: list[WorkerProxy]
) -> None:
    issued = issue(stack, stack.account("1"), tpm=1_000)
    tokens = f"ai-proxy:limits:{{{issued['key_id']}}}:tokens"
    used = 0

    def ask(requests: int) -> list[httpx.Response]:
        """Ask, and return once the tokens of the answers have been counted."""
        nonlocal used
        answers = ask_all(proxies, requests, issued["key"], new_address, SHORT_CHAT)
        used += sum(answer.json().get("usage", {}).get("total_tokens", 0) for answer in answers)
        while sum(map(int, store.hvals(tokens))) < used:
            pass  # the test's time limit ends this
        return answers

    def remaining(answers: Sequence[httpx.Response]) -> list[int]:
        return [int(answer.headers["x-ratelimit-remaining-tokens"]) for answer in answers]

    with closing(redis.Redis.from_url(require_redis())) as store:
        side_by_side = ask(40)
        told = [(1_000 - used, remaining(ask(1)))]
        while used < 1_000:
            told.append((1_000 - used, remaining(ask(1))))
        afterwards = ask(20)
        counted = sum(map(int, store.hvals(tokens)))

    assert statuses(side_by_side) == {200: 40}
    assert [[expected] for expected, _ in told] == [found for _, found in told]
    assert len(told) > 5
    assert statuses(afterwards) == {429: 20}
    assert set(remaining(afterwards)) == {0}
    assert messages_of(afterwards) == {
        "Rate limit reached for this API key: 1000 tokens per minute (TPM)."
    }
    assert counted == used


def test_a_stream_passes_the_limits_chunk_by_chunk_and_byte_for_byte(
    stack: Stack, proxies: list[WorkerProxy]
) -> None:
    """The next token is only made when the one before has been read: nothing may collect them."""
    account = stack.account("1")
    issued = issue(stack, account, rpm=60, tpm=1_000_000, max_concurrent=9)
    chat = {
        "model": MODEL,
        "messages": say(f"[[sim tokens={STREAM_TOKENS} thoughts=0 chunk=1 gate={account}]]"),
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": account,
    }

    def streamed(url: str, key: str) -> tuple[bytes, set[str]]:
        """Return the answer without its own id and time, and its headers that tell of limits."""
        headers = {"authorization": f"Bearer {key}", "x-forwarded-for": new_address()}
        stack.release(account, 1)
        with httpx.stream(
            "POST", f"{url}{CHAT_PATH}", json=chat, headers=headers, timeout=TIMEOUT_SECONDS
        ) as answer:
            parts = answer.iter_raw()
            body = b""
            for number in range(1, STREAM_TOKENS + 1):
                while len(re.findall(rb'"content":"[^"]', body)) < number:
                    body += next(parts)
                if number < STREAM_TOKENS:
                    stack.release(account, 1)
            body += b"".join(parts)
        told = {name for name in answer.headers if name.startswith("x-ratelimit-")}
        return re.sub(rb'("id":"chatcmpl-)[^"]*|("created":)\d+', rb"\1\2", body), told

    free, told_nothing = streamed(stack.proxy.url, CLIENT_KEY)
    limited = [streamed(proxy.url, issued["key"]) for proxy in proxies]

    assert free.count(b"data: ") > STREAM_TOKENS
    assert free.endswith(b"data: [DONE]\n\n")
    assert told_nothing == set()
    for body, told in limited:
        assert body == free
        assert {"x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens"} <= told


def test_workers_that_count_in_memory_admit_no_more_than_the_machine_may(
    stack: Stack, tmp_path: Path
) -> None:
    """Each has its part of the limit: connections that go to one of them use up no other's."""
    issued = issue(stack, stack.account("1"), rpm=RPM)
    settings = {
        "RATE_LIMIT_PER_MINUTE": str(PER_MINUTE),
        "RATE_LIMIT_COMPLETIONS_PER_MINUTE": str(10 * PER_MINUTE),
    }
    address = new_address()
    with worker_proxies(stack, tmp_path, settings, count=1) as proxies:
        of_one_address = ask_all(proxies, MACHINE_REQUESTS, CLIENT_KEY, lambda: address)
        shares = answered(proxies)
        of_one_key = ask_all(proxies, MACHINE_REQUESTS, issued["key"], new_address, SHORT_CHAT)
        key_shares = answered(proxies) - shares

    for answers, workers in ((of_one_address, shares), (of_one_key, key_shares)):
        assert len(workers) == WORKERS
        assert workers.total() == MACHINE_REQUESTS
        admitted = sum(min(share, 100 // WORKERS) for share in workers.values())
        assert statuses(answers) == {200: admitted, 429: MACHINE_REQUESTS - admitted}
        assert admitted <= 100
        assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"50"}
