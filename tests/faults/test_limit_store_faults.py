"""The Redis of the limits is stopped, paused or slow: nobody waits long, and nobody is refused.

Limits go on in each process, streams go on, a metric and one line of the log tell; once Redis is
back it is used again, without a restart. `REDIS_FAULT_SECONDS=30` keeps each fault up so long.
"""

import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from credits.client import SERVICE_KEY, bearer, credits_process
from support.key_holders import CHAT, issue
from support.postgres_cluster import wait_until
from support.processes import ServiceProcess
from support.redis_server import FAULTS, FaultyRedis, faulty_redis
from support.stack import CLIENT_KEY, MODEL, TIMEOUT_SECONDS, Stack, proxy_env, running_stack, say

FAULT_SECONDS = float(os.environ.get("REDIS_FAULT_SECONDS", "0"))
LOST, BACK = "rate_limit_store_unavailable", "rate_limit_store_available"
# Of one address, in a minute.
COMPLETIONS = 3
CROWD = 24


def fresh_address() -> str:
    """Return an address that has asked for nothing yet."""
    return f"2001:db8:{uuid.uuid4().hex[:4]}:{uuid.uuid4().hex[:4]}::1"


@dataclass
class World:
    """Two proxies that share a Redis for their limits.

    Attributes:
        stack: simulator, ledger and the first proxy.
        proxies: both.
        store: their Redis.
        http: asks either of them.
    """

    stack: Stack
    proxies: list[ServiceProcess]
    store: FaultyRedis
    http: httpx.Client
    account: str

    def ask(
        self, proxy: ServiceProcess, *, key: str = CLIENT_KEY, address: str | None = None
    ) -> httpx.Response:
        """Ask for a completion, from an address; from a new one if none is named."""
        return self.http.post(
            f"{proxy.url}/v1/chat/completions",
            json={**CHAT, "user": self.account},
            headers={
                "authorization": f"Bearer {key}",
                "x-forwarded-for": address or fresh_address(),
            },
        )

    def issued(self, **limits: int) -> str:
        """Return a new issued key with limits."""
        key: str = issue(self.stack, self.account, **limits)["key"]
        return key

    def counts_are_shared(self) -> bool:
        """Tell whether both proxies count together, by address and by key."""
        address, key = fresh_address(), self.issued(rpm=2)
        by_address = [remaining(self.ask(proxy, address=address)) for proxy in self.proxies]
        by_key = [remaining(self.ask(proxy, key=key)) for proxy in self.proxies]
        return by_address == [COMPLETIONS - 1, COMPLETIONS - 2] and by_key == [1, 0]

    def assert_each_counts_for_itself(self) -> None:
        """Check that each process admits what an address, and a key, may ask in a minute."""
        address, key = fresh_address(), self.issued(rpm=2)
        for proxy in self.proxies:
            by_address = [self.ask(proxy, address=address) for _ in range(COMPLETIONS + 1)]
            by_key = [self.ask(proxy, key=key) for _ in range(3)]

            assert statuses(by_address) == [*[200] * COMPLETIONS, 429]
            assert statuses(by_key) == [200, 200, 429]

    def assert_a_crowd_is_answered(self) -> None:
        """Check that many who come at once, with keys and without limits, are all served."""
        key = self.issued(rpm=1000, tpm=1_000_000, max_concurrent=1000)
        with ThreadPoolExecutor(CROWD) as threads:
            answers = threads.map(
                lambda number: self.ask(
                    self.proxies[number % 2], key=(CLIENT_KEY, key)[number // 2 % 2]
                ),
                range(CROWD),
            )
            assert statuses(list(answers)) == [200] * CROWD


def statuses(answers: list[httpx.Response]) -> list[int]:
    return [answer.status_code for answer in answers]


def remaining(answer: httpx.Response) -> int | None:
    """Return how many requests are left, by the limit that is met first."""
    told = answer.headers.get("x-ratelimit-remaining-requests")
    return None if told is None else int(told)


def told(proxy: ServiceProcess) -> list[str]:
    """Return what the log says of the store."""
    return [event["event"] for event in proxy.events() if event.get("event") in {LOST, BACK}]


def limits_of(process: ServiceProcess, http: httpx.Client) -> dict[str, Any]:
    """Return what the metrics say of the store, in both forms."""
    view: dict[str, Any] = http.get(f"{process.url}/metrics").json()["limits"]
    text = http.get(f"{process.url}/metrics", headers={"accept": "text/plain"}).text
    assert f'rate_limit_store_up{{store="redis"}} {float(view["store_up"])}' in text
    assert f"rate_limit_store_errors_total {float(view['store_errors'])}" in text
    return view


def settings(store: FaultyRedis) -> dict[str, str]:
    return {
        "RATE_LIMIT_ENABLED": "true",
        "RATE_LIMIT_PER_MINUTE": "1000",
        "RATE_LIMIT_COMPLETIONS_PER_MINUTE": str(COMPLETIONS),
        "RATE_LIMIT_STORAGE_URI": store.url,
        # Less than two round trips to a slow Redis, and enough for a well one on a busy machine.
        "RATE_LIMIT_STORE_TIMEOUT_SECONDS": "1",
        "FORWARDED_ALLOW_IPS": "127.0.0.1",
    }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("store-faults")
    ledger_url = f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}"
    with ExitStack() as exits:
        store = exits.enter_context(faulty_redis(folder))
        stack = exits.enter_context(running_stack(folder, ledger_url, settings(store)))
        other = exits.enter_context(another_proxy(stack, store, folder / "other"))
        http = exits.enter_context(httpx.Client(timeout=TIMEOUT_SECONDS))
        yield World(stack, [stack.proxy, other], store, http, stack.account("100"))


def another_proxy(stack: Stack, store: FaultyRedis, folder: Path) -> ServiceProcess:
    folder.mkdir()
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    env = {**proxy_env(urls, folder), **settings(store)}
    return ServiceProcess("ai-proxy-service", env, cwd=folder)


@pytest.fixture
def world(running: World) -> Iterator[World]:
    """The proxies with a Redis that answers, at the beginning and again at the end."""
    wait_until("both proxies count together", running.counts_are_shared)
    yield running
    running.store.mend()


@pytest.mark.timeout(180 + 2 * FAULT_SECONDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_requests_go_on_with_limits_per_process_until_the_store_is_back(
    world: World, fault: str
) -> None:
    before = [len(told(proxy)) for proxy in world.proxies]
    gate = f"{fault}-{uuid.uuid4().hex}"
    with openai.OpenAI(
        api_key=world.issued(max_concurrent=2),
        base_url=f"{world.stack.proxy.url}/v1",
        max_retries=0,
        timeout=TIMEOUT_SECONDS,
    ) as client:
        stream = client.chat.completions.create(
            model=MODEL,
            messages=say(f"[[sim tokens=8 thoughts=0 gate={gate}]]"),
            stream=True,
            extra_headers={"x-forwarded-for": fresh_address()},
        )
        world.stack.wait_at_gate(gate)

        world.store.fail(fault)
        until = time.monotonic() + FAULT_SECONDS
        world.assert_a_crowd_is_answered()
        world.assert_each_counts_for_itself()
        while time.monotonic() < until:
            world.assert_a_crowd_is_answered()
        world.stack.open_gate(gate)
        finishes = [chunk.choices[0].finish_reason for chunk in stream if chunk.choices]

    assert finishes[-1] == "stop"
    for proxy, count in zip(world.proxies, before, strict=True):
        assert told(proxy)[count:] == [LOST], "one line, however many had to wait"
        view = limits_of(proxy, world.http)
        assert (view["store"], view["store_up"]) == ("redis", False)
        assert view["store_errors"] >= 1

    world.store.mend()
    wait_until("both proxies count together again", world.counts_are_shared)

    for proxy, count in zip(world.proxies, before, strict=True):
        assert told(proxy)[count:] == [LOST, BACK]
        assert limits_of(proxy, world.http)["store_up"] is True


def test_a_proxy_starts_without_its_store_and_takes_it_up_later(
    world: World, tmp_path: Path
) -> None:
    world.store.fail("stopped")
    with another_proxy(world.stack, world.store, tmp_path / "late") as late:
        alone = World(world.stack, [late], world.store, world.http, world.account)
        alone.assert_each_counts_for_itself()
        without = (told(late), limits_of(late, world.http)["store_up"])
        world.store.mend()
        both = World(world.stack, [world.proxies[0], late], world.store, world.http, world.account)
        wait_until("it counts together with the other one", both.counts_are_shared)

        assert without == ([LOST], False)
        assert told(late) == [LOST, BACK]
        assert limits_of(late, world.http)["store_up"] is True


def test_the_credits_service_answers_strangers_without_its_store_and_ends_in_order(
    tmp_path: Path,
) -> None:
    """Its limit is for those who guess keys; each of them is still told that his is none."""
    with faulty_redis(tmp_path) as store:
        store.fail("paused")
        limits = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_PER_MINUTE": "3"}
        with (
            credits_process(
                f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite3'}",
                **limits,
                RATE_LIMIT_STORAGE_URI=store.url,
            ) as ledger,
            httpx.Client(base_url=ledger.url, timeout=TIMEOUT_SECONDS) as stranger,
            httpx.Client(headers=bearer(SERVICE_KEY), timeout=TIMEOUT_SECONDS) as operator,
        ):
            answers = [stranger.get("/api/v1/accounts/ann") for _ in range(4)]

            assert statuses(answers) == [401, 401, 401, 429]
            assert told(ledger) == [LOST]
            assert limits_of(ledger, operator)["store_up"] is False
            assert ledger.stop() == 0
