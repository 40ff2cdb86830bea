"""Requests at once hold over two proxies of two workers each, also when some of them are killed.

`SHARED_LIMITS_WAIT=1` waits until the leases of those that were killed have ended, about half a
minute, where the test otherwise sets the store as if that time had passed.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from ai_proxy_service.services.key_limit_redis import SLOT_SECONDS
from support.key_holders import ask, issue
from support.redis_wire import require_redis
from support.stack import MODEL, TIMEOUT_SECONDS, Stack, say
from support.worker_proxies import CHAT_PATH, WORKERS, WorkerProxy, answered, worker_proxies

WAITS = bool(os.environ.get("SHARED_LIMITS_WAIT"))
STREAMS = 100
MAX_CONCURRENT = 10


@pytest.fixture
def proxies(stack: Stack, tmp_path: Path) -> Iterator[list[WorkerProxy]]:
    """Two proxies of two workers each, which limit keys only."""
    settings = {"RATE_LIMIT_STORAGE_URI": require_redis(), "RATE_LIMIT_ENABLED": "false"}
    with worker_proxies(stack, tmp_path, settings) as proxies:
        yield proxies


@pytest.fixture
def store() -> Iterator[redis.Redis]:
    """The store of the limits."""
    with closing(redis.Redis.from_url(require_redis())) as store:
        yield store


class Slots:
    """What the store knows of the requests of a key that run."""

    def __init__(self, store: redis.Redis, key_id: str) -> None:
        self._store = store
        self._name = f"ai-proxy:limits:{{{key_id}}}:slots"

    def ends(self) -> dict[bytes, float]:
        """Return when each slot's lease ends, in seconds since 1970."""
        found: Any = self._store.zrange(self._name, 0, -1, withscores=True)
        return dict(found)

    def now(self) -> float:
        """Return the time as the store has it."""
        seconds, micros = self._store.time()
        return seconds + micros / 1_000_000

    def let_end(self, slots: set[bytes]) -> None:
        """Return when the leases of these slots have ended."""
        if WAITS:
            last = max(end for slot, end in self.ends().items() if slot in slots)
            until(lambda: self.now() > last)
        else:
            self._store.zadd(self._name, dict.fromkeys(slots, 1))


def until(what: Callable[[], bool]) -> None:
    """Ask until it is so; the test's time limit ends this."""
    while not what():
        time.sleep(0.01)


def stream_body(gate: str) -> dict[str, Any]:
    """Return a request for a stream that stands at a gate after its first token."""
    messages = say(f"[[sim tokens=5 thoughts=0 chunk=1 stall_after=1 gate={gate}]]")
    return {"model": MODEL, "messages": messages, "stream": True}


class Streams:
    """Streams that a test holds open."""

    def __init__(self, stack: Stack, key: str, gate: str, exits: ExitStack) -> None:
        self._stack = stack
        self._gate = gate
        self._exits = exits
        self._at_gate = 0
        self._client = exits.enter_context(
            httpx.Client(
                headers={"authorization": f"Bearer {key}"},
                limits=httpx.Limits(max_keepalive_connections=0),
                timeout=TIMEOUT_SECONDS,
            )
        )

    def open(self, proxy: WorkerProxy) -> httpx.Response:
        """Ask for one more, and return when its answer has begun and stands at the gate."""
        url = f"{proxy.url}{CHAT_PATH}"
        asking = self._client.stream("POST", url, json=stream_body(self._gate))
        answer = self._exits.enter_context(asking)
        if answer.is_success:
            self._at_gate += 1
            self._stack.wait_at_gate(self._gate, self._at_gate)
        return answer

    def broken(self, streams: list[httpx.Response]) -> None:
        """Read what is left of streams whose server is gone."""
        for stream in streams:
            with pytest.raises(httpx.TransportError):
                stream.read()
        self._at_gate -= len(streams)


def test_of_many_streams_at_once_exactly_as_many_run_as_the_key_may(
    stack: Stack, proxies: list[WorkerProxy], store: redis.Redis
) -> None:
    account = stack.account("1")
    issued = issue(stack, account, max_concurrent=MAX_CONCURRENT)
    slots = Slots(store, issued["key_id"])
    headers = {"authorization": f"Bearer {issued['key']}"}

    async def run(gate: str) -> tuple[list[httpx.Response], list[httpx.Response]]:
        """Ask for all; return the answers that came while the gate was shut, and the others."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(
            headers=headers, limits=limits, timeout=TIMEOUT_SECONDS
        ) as client:
            urls = [f"{proxies[number % 2].url}{CHAT_PATH}" for number in range(STREAMS)]
            asking = {asyncio.create_task(client.post(url, json=stream_body(gate))) for url in urls}
            refused: set[asyncio.Task[httpx.Response]] = set()
            while len(refused) < STREAMS - MAX_CONCURRENT:
                done, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                refused |= done
            await asyncio.to_thread(stack.wait_at_gate, gate, MAX_CONCURRENT)
            await asyncio.to_thread(stack.open_gate, gate)
            return [await task for task in refused], [await task for task in asking]

    for gate in (f"{account}-first", f"{account}-again"):
        before = answered(proxies)
        refused, served = asyncio.run(run(gate))
        shares = answered(proxies) - before

        assert {answer.status_code for answer in refused} == {429}
        assert {
            answer.json()["error"]["message"].partition(" Please")[0] for answer in refused
        } == {f"Rate limit reached for this API key: {MAX_CONCURRENT} concurrent requests."}
        assert Counter(answer.status_code for answer in served) == {200: MAX_CONCURRENT}
        assert all(answer.text.endswith("data: [DONE]\n\n") for answer in served)
        assert len(shares) == len(proxies) * WORKERS, "every worker has answered"
        until(lambda: slots.ends() == {})


def test_slots_of_a_killed_proxy_and_of_a_killed_worker_come_back_and_no_others(
    stack: Stack, proxies: list[WorkerProxy], store: redis.Redis
) -> None:
    account = stack.account("1")
    issued = issue(stack, account, max_concurrent=4)
    slots = Slots(store, issued["key_id"])
    left, right = proxies
    doomed, survivor = sorted(right.workers())

    def statuses() -> list[int]:
        return [ask(right.url, issued["key"]).status_code for _ in range(4)]

    with ExitStack() as exits:
        streams = Streams(stack, issued["key"], account, exits)
        opened: dict[int, httpx.Response] = {}
        for proxy in proxies:
            for worker in proxy.workers():
                with proxy.only(worker):
                    opened[worker] = streams.open(proxy)
        while_all_run = statuses()
        left.kill()
        os.kill(doomed, signal.SIGKILL)
        kept = opened.pop(survivor)
        streams.broken(list(opened.values()))
        leases = slots.ends()
        latest = max(leases.values()) - slots.now()
        until(lambda: any(end > leases[slot] for slot, end in slots.ends().items()))
        prolonged = {slot for slot, end in slots.ends().items() if end > leases[slot]}
        before_the_end = statuses()
        slots.let_end(leases.keys() - prolonged)
        until(lambda: len(right.workers() - {doomed}) == WORKERS)
        right.process.wait_for_log(
            "Application startup complete", 2 * TIMEOUT_SECONDS, times=WORKERS + 1
        )
        (successor,) = right.workers() - {doomed, survivor}
        with right.only(successor):
            more = [streams.open(right)]
        more += [streams.open(right) for _ in range(3)]
        stack.open_gate(account)
        texts = [kept.read().decode(), *(answer.read().decode() for answer in more[:3])]

    assert while_all_run == before_the_end == [429] * 4
    assert len(leases) == 4
    assert len(prolonged) == 1, "only the slot whose worker lives"
    assert latest <= SLOT_SECONDS
    assert [answer.status_code for answer in more] == [200, 200, 200, 429]
    assert all(text.endswith("data: [DONE]\n\n") for text in texts)
    until(lambda: slots.ends() == {})
