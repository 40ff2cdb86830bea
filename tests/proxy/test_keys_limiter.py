"""Requests of issued keys are counted for all proxies together, and go on where that fails."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from ai_proxy_service import parts
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.services import key_limiter
from ai_proxy_service.services.key_limiter import KeyLimiter
from ai_proxy_service.settings import ProxySettings
from service_kit import store_health
from service_kit.store_health import StoreHealth
from support.issued_keys import limited_key
from support.redis_wire import Wire, redis_wire, require_redis


def patient(uri: str, metrics: ProxyMetrics) -> KeyLimiter:
    """Return a limiter that gives its store time: a busy machine must not look like a dead one."""
    return KeyLimiter(uri, 1, metrics, health=health(uri, metrics), store_timeout_seconds=10)


def health(uri: str, metrics: ProxyMetrics) -> StoreHealth:
    """Return what nobody knows of a store yet."""
    return StoreHealth(metrics.http.limit_store, uri)


def errors(metrics: ProxyMetrics) -> float:
    return metrics.readings().total("rate_limit_store_errors_total")


async def test_of_three_hundred_requests_at_two_proxies_exactly_a_hundred_pass(
    metrics: ProxyMetrics,
) -> None:
    limiters = [patient(require_redis(), metrics) for _ in range(2)]
    key = limited_key(rpm=100)

    uses = await asyncio.gather(*(limiters[n % 2].enter(key) for n in range(300)))
    admitted = [use for use in uses if use.standing.refused_by is None]
    for limiter in limiters:
        await limiter.aclose()

    assert len(admitted) == 100
    assert errors(metrics) == 0
    reached = metrics.readings().by_label("gateway_key_limits_reached_total", "limit")
    assert reached == {"requests": 200}


@pytest.mark.parametrize("uri", ["memory://", "redis"])
async def test_a_slot_is_free_once_every_part_of_its_request_has_ended(
    metrics: ProxyMetrics, uri: str
) -> None:
    limiter = patient(require_redis() if uri == "redis" else uri, metrics)
    key = limited_key(max_concurrent=1)

    async def refused() -> bool:
        await limiter._background.finish(30)
        use = await limiter.enter(key)
        return use.standing.refused_by == "concurrent"

    use = await limiter.enter(key)
    use.join()
    use.leave()
    while_one_part_runs = await refused()
    use.leave()
    afterwards = await refused()
    await limiter.aclose()

    assert (while_one_part_runs, afterwards) == (True, False)


async def test_a_process_keeps_the_slots_that_it_uses(
    metrics: ProxyMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_limiter, "KEEP_EVERY_SECONDS", 0.001)
    limiter = patient(require_redis(), metrics)
    key = limited_key(max_concurrent=1)
    async with Redis.from_url(require_redis()) as redis:
        use = await limiter.enter(key)
        slots = f"ai-proxy:limits:{{{key.name}}}:slots"
        await redis.zadd(slots, {use._slot: 1})

        keeping = asyncio.create_task(limiter.keep_slots())
        while (await redis.zscore(slots, use._slot)) == 1:  # the test's time limit ends this
            pass
        left = await redis.zscore(slots, use._slot)
        keeping.cancel()
        use.leave()
        await limiter.aclose()
        gone = await redis.zscore(slots, use._slot)

    assert left is not None
    assert left > time.time()
    assert gone is None
    assert limiter._shared_slots == {}


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with redis_wire() as wire:
        yield wire


async def test_while_redis_is_away_each_process_keeps_the_limits_itself(
    wire: Wire, metrics: ProxyMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_health, "RETRY_SECONDS", 0)
    limiter = patient(wire.url, metrics)
    key = limited_key(rpm=4, tpm=100, max_concurrent=9)

    async def remaining() -> int:
        use = await limiter.enter(key)
        use.spend(1)
        use.leave()
        await limiter._background.finish(30)
        assert use.standing.requests is not None
        return use.standing.requests.remaining

    shared = [await remaining() for _ in range(2)]
    wire.cut()
    local = [await remaining() for _ in range(2)]
    wire.mend()
    again = [await remaining() for _ in range(2)]
    await limiter.aclose()

    assert (shared, local, again) == ([3, 2], [3, 2], [1, 0])
    assert errors(metrics) > 0
    assert limiter._local._spent[key.name], "tokens count where they can"


async def test_a_redis_that_hangs_holds_up_one_request_for_a_moment_and_no_other(
    metrics: ProxyMetrics,
) -> None:
    asked = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    uri = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    limiter = KeyLimiter(uri, 1, metrics, health=health(uri, metrics))
    key = limited_key(rpm=2)

    first = asyncio.create_task(limiter.enter(key))
    await asked.wait()
    uses = [await first, await limiter.enter(key), await limiter.enter(key)]
    await limiter.aclose()
    server.close()
    await server.wait_closed()

    assert [use.standing.refused_by for use in uses] == [None, None, "requests"]
    assert errors(metrics) == 1


def test_an_address_that_is_none_ends_the_start_with_the_settings_name(
    metrics: ProxyMetrics, tmp_path: Path
) -> None:
    settings = ProxySettings(
        _env_file=None,
        api_keys=SecretStr("tester:sk-client-7b1e9d5c3a2f4860"),
        gemini_api_key=SecretStr("AIzaCanary7b1e9d5c3a2f4860"),
        data_dir=tmp_path,
        rate_limit_storage_uri=SecretStr("redis://store:99999"),
    )

    with pytest.raises(SystemExit, match="RATE_LIMIT_STORAGE_URI: "):
        parts.key_limiter(settings, metrics, parts.limit_store(settings, metrics))
