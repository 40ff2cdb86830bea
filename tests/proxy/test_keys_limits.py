"""What the limits of issued keys admit: in memory and in Redis alike, and pure arithmetic."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from ai_proxy_service.core.issued_keys import IssuedKey
from ai_proxy_service.core.key_limits import (
    TOKENS_COUNT_SECONDS,
    KeyLimitReachedError,
    KeyLimitStore,
    Standing,
    Window,
    shared_between,
    token_window,
)
from ai_proxy_service.services.key_limit_memory import MemoryKeyLimits
from ai_proxy_service.services.key_limit_redis import SLOT_SECONDS, RedisKeyLimits
from support.issued_keys import limited_key
from support.redis_wire import require_redis


class Bench:
    """A store, and the time as it sees it."""

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis
        self._ahead_seconds = 0.0
        self.store: KeyLimitStore = (
            MemoryKeyLimits(lambda: time.time() + self._ahead_seconds)
            if redis is None
            else RedisKeyLimits(redis)
        )

    async def pass_time(self, key: IssuedKey, seconds: int) -> None:
        """Let tokens and slots of a key be so much older."""
        self._ahead_seconds += seconds
        if self._redis is not None:
            tokens = f"ai-proxy:limits:{{{key.name}}}:tokens"
            slots = f"ai-proxy:limits:{{{key.name}}}:slots"
            for second, count in (await self._redis.hgetall(tokens)).items():
                await self._redis.hdel(tokens, second)
                await self._redis.hset(tokens, str(int(second) - seconds), count)
            names: Any = await self._redis.zrange(slots, 0, -1)
            for slot in names:
                await self._redis.zincrby(slots, -seconds, slot)

    async def enter(self, key: IssuedKey, slot: str = "slot") -> Standing:
        return await self.store.enter(key, slot)


@pytest.fixture(params=["memory", "redis"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield Bench(None)
        return
    redis = Redis.from_url(require_redis())
    yield Bench(redis)
    await redis.aclose()


async def test_requests_are_admitted_up_to_the_limit_and_refused_ones_do_not_count(
    bench: Bench,
) -> None:
    key = limited_key(rpm=3)

    standings = [await bench.enter(key) for _ in range(5)]

    assert [standing.refused_by for standing in standings] == [None] * 3 + ["requests"] * 2
    windows = [standing.requests for standing in standings]
    assert [window.remaining for window in windows if window] == [2, 1, 0, 0, 0]
    assert all(window and window.limit == 3 for window in windows)
    assert all(window and 0 < window.reset_seconds <= 60 for window in windows)


async def test_tokens_count_once_they_are_known_and_the_last_answer_may_go_beyond(
    bench: Bench,
) -> None:
    key = limited_key(tpm=100)

    before = await bench.enter(key)
    await bench.store.spend(key.name, 99)
    within = await bench.enter(key)
    await bench.store.spend(key.name, 1_000)
    beyond = await bench.enter(key)

    assert before.tokens == Window(100, 100, 0)
    assert within.tokens is not None
    assert beyond.tokens is not None
    assert (within.refused_by, within.tokens.remaining) == (None, 1)
    assert (beyond.refused_by, beyond.tokens.remaining) == ("tokens", 0)
    assert 0 < beyond.tokens.reset_seconds <= TOKENS_COUNT_SECONDS


async def test_tokens_of_more_than_a_minute_ago_count_no_more(bench: Bench) -> None:
    key = limited_key(tpm=100)
    await bench.store.spend(key.name, 100)
    await bench.pass_time(key, 30)
    await bench.store.spend(key.name, 60)

    await bench.pass_time(key, 29)
    still = await bench.enter(key)
    await bench.pass_time(key, 2)
    later = await bench.enter(key)

    assert still.refused_by == "tokens"
    assert later.refused_by is None
    assert later.tokens is not None
    assert later.tokens.remaining == 40


async def test_so_many_run_at_once_and_no_more_until_one_has_ended(bench: Bench) -> None:
    key = limited_key(max_concurrent=2)

    first, second, third = [await bench.enter(key, slot) for slot in "abc"]
    await bench.store.leave(key.name, "a")
    fourth, fifth = [await bench.enter(key, slot) for slot in "de"]

    assert [first.refused_by, second.refused_by, third.refused_by] == [None, None, "concurrent"]
    assert [fourth.refused_by, fifth.refused_by] == [None, "concurrent"]


async def test_what_another_limit_refuses_counts_for_none(bench: Bench) -> None:
    key = limited_key(rpm=2, tpm=100, max_concurrent=2)
    assert [(await bench.enter(key, slot)).refused_by for slot in "ab"] == [None, None]
    await bench.store.leave(key.name, "a")

    assert (await bench.enter(key, "c")).refused_by == "requests"
    more = IssuedKey(name=key.name, account="ann", label="k", rpm=9, max_concurrent=2)
    assert (await bench.enter(more, "d")).refused_by is None, "the refused one left its slot"
    refused = await bench.enter(more, "e")
    assert refused.refused_by == "concurrent"
    assert refused.requests is not None
    assert refused.requests.remaining == 8
    await bench.store.spend(key.name, 100)
    assert (await bench.enter(key, "f")).refused_by == "tokens"


async def test_a_key_without_limits_of_a_kind_has_no_window_of_it(bench: Bench) -> None:
    standing = await bench.enter(limited_key(max_concurrent=5))

    assert standing == Standing(None, None, None)


async def test_slots_of_a_process_that_is_gone_come_back() -> None:
    async with Redis.from_url(require_redis()) as redis:
        bench, key = Bench(redis), limited_key(max_concurrent=1)
        await bench.enter(key, "of a process that dies")

        await bench.pass_time(key, SLOT_SECONDS - 1)
        before = await bench.enter(key)
        await bench.pass_time(key, 1)
        after = await bench.enter(key)

    assert (before.refused_by, after.refused_by) == ("concurrent", None)


async def test_a_slot_that_is_used_still_is_kept_and_one_that_was_left_stays_free() -> None:
    async with Redis.from_url(require_redis()) as redis:
        bench, key = Bench(redis), limited_key(max_concurrent=1)
        await bench.enter(key, "long")

        for _ in range(3):
            await bench.pass_time(key, SLOT_SECONDS - 1)
            await bench.store.keep({key.name: ["long", "left meanwhile"]})
        running = await redis.zrange(f"ai-proxy:limits:{{{key.name}}}:slots", 0, -1)
        refused = await bench.enter(key)

    assert running == [b"long"]
    assert refused.refused_by == "concurrent"


async def test_what_redis_keeps_of_a_key_goes_away_by_itself() -> None:
    async with Redis.from_url(require_redis()) as redis:
        bench, key = Bench(redis), limited_key(rpm=5, tpm=5, max_concurrent=5)
        await bench.enter(key)
        await bench.store.spend(key.name, 1)

        names = [name async for name in redis.scan_iter(match=f"*{key.name}*", count=10_000)]
        ends = [await redis.ttl(name) for name in names]

    assert len(names) == 3
    assert all(0 < seconds <= TOKENS_COUNT_SECONDS for seconds in ends)


async def test_keys_that_are_used_no_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_proxy_service.services.key_limit_memory.KEYS_MAX", 3)
    now = [1_000.0]
    store = MemoryKeyLimits(lambda: now[0])
    for number in range(3):
        await store.spend(f"old-{number}", 1)
    now[0] += TOKENS_COUNT_SECONDS

    await store.spend("new", 1)

    assert set(store._spent) == {"new"}


@pytest.mark.parametrize(
    ("spent", "window"),
    [
        pytest.param({}, Window(100, 100, 0.0), id="nothing"),
        pytest.param({990: 40}, Window(100, 60, 51.0), id="until the oldest leaves"),
        pytest.param({950: 40, 990: 70}, Window(100, 0, 11.0), id="until there is room again"),
        pytest.param({950: 10, 990: 150}, Window(100, 0, 51.0), id="until the large one leaves"),
        pytest.param({950: 10, 990: 100}, Window(100, 0, 51.0), id="what is used up exactly"),
        pytest.param({939: 500, 990: 1}, Window(100, 99, 51.0), id="what is too old"),
    ],
)
def test_a_window_of_tokens(spent: dict[int, int], window: Window) -> None:
    assert token_window(spent, 100, 1_000.0) == window


@pytest.mark.parametrize(
    ("refused_by", "text", "seconds"),
    [
        ("requests", "60 requests per minute (RPM)", "13"),
        ("tokens", "1000 tokens per minute (TPM)", "31"),
        ("concurrent", "2 concurrent requests", "1"),
    ],
)
def test_a_refusal_says_which_limit_and_when_to_try_again(
    refused_by: Any, text: str, seconds: str
) -> None:
    standing = Standing(Window(60, 0, 12.5), Window(1000, 0, 30.5), refused_by)

    error = KeyLimitReachedError(limited_key(rpm=60, tpm=1000, max_concurrent=2), standing)

    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert error.message == (
        f"Rate limit reached for this API key: {text}. Please try again in {seconds}s."
    )
    assert error.headers["retry-after"] == seconds


def test_workers_that_count_alone_share_a_limit_between_them() -> None:
    key = limited_key(rpm=10, tpm=100, max_concurrent=2)

    part = shared_between(key, 4)

    assert (part.rpm, part.tpm, part.max_concurrent) == (2, 25, 1)
    assert shared_between(key, 1) is key
    assert shared_between(limited_key(rpm=10), 4).tpm is None
