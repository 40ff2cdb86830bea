"""Limits in a store that machines share, and what happens while it does not answer."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import redis

from service_kit import rate_limit, store_health
from service_kit.metrics import LimitStoreMetrics, MetricsRegistry
from service_kit.rate_limit import IpRateLimiter, RateRule, RateState
from service_kit.store_health import StoreHealth
from support.kit_app import AUTHORIZED, KEY, KitSettings, StartApp, kit_app
from support.live_server import live_server
from support.redis_wire import Wire, redis_wire, require_redis

RULES = (RateRule("requests", 5),)
# A busy machine must not look like a dead store.
PATIENT_SECONDS = 10


@pytest.fixture
def redis_url() -> str:
    """Return a Redis that answers."""
    return require_redis()


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with redis_wire() as wire:
        yield wire


@pytest.fixture
def client_name() -> str:
    """Return an address that no other test counts on."""
    return f"client-{uuid.uuid4().hex}"


def _limiter(
    url: str, timeout_seconds: float = PATIENT_SECONDS
) -> tuple[IpRateLimiter, Callable[[], float]]:
    """Return a limiter, and what tells how often its store has failed."""
    registry = MetricsRegistry()
    limiter = IpRateLimiter(
        RULES,
        storage_uri=url,
        health=StoreHealth(LimitStoreMetrics(registry.registry), url),
        store_timeout_seconds=timeout_seconds,
    )
    return limiter, lambda: registry.readings().total("rate_limit_store_errors_total")


async def _check(limiter: IpRateLimiter, address: str) -> RateState:
    state = await limiter.check(address, "/")
    assert state is not None
    return state


async def test_two_machines_share_one_limit(redis_url: str, client_name: str) -> None:
    (one, one_errors), (other, other_errors) = _limiter(redis_url), _limiter(redis_url)

    states = [await _check(limiter, client_name) for limiter in (one, other) * 3]

    assert [state.allowed for state in states] == [True] * 5 + [False]
    assert [state.remaining for state in states] == [4, 3, 2, 1, 0, 0]
    assert one_errors() == other_errors() == 0


async def test_valkey_is_spoken_to_as_redis_is(redis_url: str, client_name: str) -> None:
    shared, _ = _limiter(redis_url)
    limiter, errors = _limiter(redis_url.replace("redis://", "valkey://"))

    await _check(shared, client_name)

    assert (await _check(limiter, client_name)).remaining == 3
    assert errors() == 0


async def test_requests_at_the_same_time_are_counted_exactly(
    redis_url: str, client_name: str
) -> None:
    limiters = [_limiter(redis_url)[0] for _ in range(3)]

    states = await asyncio.gather(
        *(_check(limiter, client_name) for limiter in limiters for _ in range(10))
    )

    assert sum(state.allowed for state in states) == 5


def test_a_service_limits_by_the_shared_store(
    redis_url: str, start_app: StartApp, monkeypatch: pytest.MonkeyPatch, client_name: str
) -> None:
    # Both apps see their client under an address that is this test's own.
    monkeypatch.setattr(rate_limit, "address_bucket", lambda _address: client_name)
    apps = [
        start_app(
            rate_limit_per_minute=3,
            rate_limit_storage_uri=redis_url,
            rate_limit_store_timeout_seconds=PATIENT_SECONDS,
        )
        for _ in range(2)
    ]

    statuses = [app.get("/v1/whoami", headers=AUTHORIZED).status_code for app in apps * 2]

    assert statuses == [200, 200, 200, 429]


def test_the_end_of_an_app_closes_its_connections_to_the_store(redis_url: str) -> None:
    name = f"limits-{uuid.uuid4().hex}"
    app = kit_app(
        KitSettings(
            api_keys=KEY,
            rate_limit_storage_uri=f"{redis_url}?client_name={name}",
            rate_limit_store_timeout_seconds=PATIENT_SECONDS,
        )
    )
    with redis.Redis.from_url(redis_url) as observer:

        def is_connected() -> bool:
            return name in [client["name"] for client in observer.client_list()]

        with live_server(app) as url:
            httpx.get(f"{url}/v1/whoami", timeout=30)
            assert is_connected()
        while is_connected():  # Redis takes note in its own time; the test's time limit ends this
            pass


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


async def test_without_its_store_a_process_keeps_the_limit_itself(client_name: str) -> None:
    limiter, errors = _limiter(f"redis://127.0.0.1:{_closed_port()}")

    states = [await _check(limiter, client_name) for _ in range(6)]

    assert [state.allowed for state in states] == [True] * 5 + [False]
    assert errors() == 1, "a dead store is asked again after a pause only"


def test_a_dead_store_shows_in_the_metrics_and_not_to_clients(start_app: StartApp) -> None:
    client = start_app(rate_limit_storage_uri=f"redis://127.0.0.1:{_closed_port()}")

    response = client.get("/v1/whoami", headers=AUTHORIZED)

    assert response.status_code == 200
    assert client.get("/metrics").json()["store_errors"] == 1


async def test_a_store_that_hangs_never_blocks_the_event_loop(client_name: str) -> None:
    """The store that takes the question and never answers runs on the same event loop.

    If the limiter blocked the loop while it waits, the store could not even receive.
    """
    asked, left = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        asked.set()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    store = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = store.sockets[0].getsockname()[1]
    limiter, errors = _limiter(f"redis://127.0.0.1:{port}", timeout_seconds=0.25)

    check = asyncio.create_task(_check(limiter, client_name))
    await asked.wait()
    was_waiting = not check.done()
    state = await check

    assert was_waiting
    assert state.allowed
    assert state.remaining == 4
    assert errors() == 1
    await left.wait()
    store.close()
    await store.wait_closed()


async def test_the_shared_count_goes_on_once_the_store_is_back(
    wire: Wire, client_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_health, "RETRY_SECONDS", 0)
    limiter, errors = _limiter(wire.url)

    shared = [(await _check(limiter, client_name)).remaining for _ in range(3)]
    wire.cut()
    local = [(await _check(limiter, client_name)).remaining for _ in range(2)]
    wire.mend()
    again = [(await _check(limiter, client_name)).remaining for _ in range(2)]

    assert shared == [4, 3, 2]
    assert local == [4, 3]
    assert again == [1, 0]
    assert errors() == 2


async def test_only_one_request_waits_for_the_answer_of_a_store_that_failed(
    wire: Wire, client_name: str
) -> None:
    limiter, errors = _limiter(wire.url)
    wire.cut()
    await _check(limiter, client_name)
    limiter._health._retry_at_seconds = 0

    await asyncio.gather(*(_check(limiter, client_name) for _ in range(20)))

    assert errors() == 2
