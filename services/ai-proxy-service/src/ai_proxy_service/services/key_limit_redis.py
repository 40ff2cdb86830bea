"""What issued keys use, counted in Redis, or in Valkey, for all proxies together.

`limits` counts requests, by the clocks of the machines that ask, which have to agree. Tokens are
counted when they have been used, however many, which it would refuse; and it knows nothing of
requests at once: these have scripts of their own, which go by Redis' clock.
"""

import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Self

from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from ai_proxy_service.core.issued_keys import IssuedKey
from ai_proxy_service.core.key_limits import (
    TOKENS_COUNT_SECONDS,
    LimitName,
    Standing,
    Window,
    token_window,
)
from ai_proxy_service.services.store_connections import connect_redis

if TYPE_CHECKING:
    from redis.asyncio import Redis

# A slot is free again if nobody has said for so long that it is still used.
SLOT_SECONDS = 30
_REFUSED_BY: Mapping[bytes, LimitName] = {b"tokens": "tokens", b"concurrent": "concurrent"}
_ENTER = """
local tpm, slots, count_seconds = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local slot, slot_seconds = ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local refused_by, spent = '', {}
if tpm > 0 then
    local used = 0
    spent = redis.call('HGETALL', KEYS[1])
    for index = 1, #spent, 2 do
        if spent[index] + count_seconds > now then
            used = used + spent[index + 1]
        else
            redis.call('HDEL', KEYS[1], spent[index])
        end
    end
    if used >= tpm then
        refused_by = 'tokens'
    end
end
if slots > 0 and refused_by == '' then
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
    if redis.call('ZCARD', KEYS[2]) >= slots then
        refused_by = 'concurrent'
    else
        redis.call('ZADD', KEYS[2], now + slot_seconds, slot)
        redis.call('EXPIRE', KEYS[2], slot_seconds)
    end
end
return {refused_by, string.format('%.6f', now), spent}
"""
_SPEND = """
redis.call('HINCRBY', KEYS[1], redis.call('TIME')[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""
# XX: a slot that was left meanwhile must not come back.
_KEEP = """
local ends_at = redis.call('TIME')[1] + ARGV[1]
for index = 2, #ARGV do
    redis.call('ZADD', KEYS[1], 'XX', ends_at, ARGV[index])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""


class RedisKeyLimits:
    """The counts that proxies share. Every call may raise what the client raises."""

    def __init__(self, client: "Redis") -> None:
        self._client = client
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            connection_pool=client.connection_pool,  # type: ignore[arg-type]  # so documented
        )
        self._requests = MovingWindowRateLimiter(storage)
        self._enter = client.register_script(_ENTER)
        self._spend = client.register_script(_SPEND)
        self._keep = client.register_script(_KEEP)

    @classmethod
    def connect(cls, uri: str, *, timeout_seconds: float) -> Self:
        """Make a client; it connects once it is needed.

        Args:
            uri: ``redis://…`` or ``valkey://…``.
            timeout_seconds: how long a connection, or an answer, is worth waiting for.

        Raises:
            ValueError: the address is not one.
        """
        return cls(connect_redis(uri, timeout_seconds=timeout_seconds))

    async def enter(self, key: IssuedKey, slot: str) -> Standing:
        """See `KeyLimitStore`."""
        refused_by, tokens = await self._enter_running(key, slot)
        if key.rpm is None:
            return Standing(None, tokens, refused_by)
        # Last, as what is refused must not count.
        item = RateLimitItemPerMinute(key.rpm)
        if refused_by is None and not await self._requests.hit(item, key.name):
            refused_by = "requests"
            await self.leave(key.name, slot)
        stats = await self._requests.get_window_stats(item, key.name)
        reset_seconds = max(0.0, stats.reset_time - time.time())
        return Standing(Window(key.rpm, max(0, stats.remaining), reset_seconds), tokens, refused_by)

    async def _enter_running(
        self, key: IssuedKey, slot: str
    ) -> tuple[LimitName | None, Window | None]:
        if key.tpm is None and key.max_concurrent is None:
            return None, None
        refused_by, now, flat = await self._enter(
            keys=[_tokens(key.name), _slots(key.name)],
            args=[key.tpm or 0, key.max_concurrent or 0, TOKENS_COUNT_SECONDS, slot, SLOT_SECONDS],
        )
        spent = {
            int(second): int(count) for second, count in zip(flat[::2], flat[1::2], strict=True)
        }
        tokens = None if key.tpm is None else token_window(spent, key.tpm, float(now))
        return _REFUSED_BY.get(refused_by), tokens

    async def spend(self, key_id: str, tokens: int) -> None:
        """See `KeyLimitStore`."""
        await self._spend(keys=[_tokens(key_id)], args=[tokens, TOKENS_COUNT_SECONDS])

    async def leave(self, key_id: str, slot: str) -> None:
        """See `KeyLimitStore`."""
        await self._client.zrem(_slots(key_id), slot)

    async def keep(self, slots: Mapping[str, Collection[str]]) -> None:
        """See `KeyLimitStore`."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for key_id, names in slots.items():
                await self._keep(
                    keys=[_slots(key_id)], args=[SLOT_SECONDS, *names], client=pipeline
                )
            await pipeline.execute()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()


# The braces keep both on one node of a cluster.
def _tokens(key_id: str) -> str:
    return f"ai-proxy:limits:{{{key_id}}}:tokens"


def _slots(key_id: str) -> str:
    return f"ai-proxy:limits:{{{key_id}}}:slots"
