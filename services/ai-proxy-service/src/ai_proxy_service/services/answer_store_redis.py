"""Answers under idempotency keys in Redis, or in Valkey, which speaks its protocol."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from ai_proxy_service.core.answers import KeyEntry, KeyReport, KeyState
from ai_proxy_service.services.answer_bounds import EXPIRE_SECONDS
from ai_proxy_service.services.store_connections import connect_redis

if TYPE_CHECKING:
    from redis.asyncio import Redis

REDIS_TIMEOUT_SECONDS = 2.0
_READ_PIECES = 64
_FIELDS = ("fingerprint", "token", "state", "charged", "beat", "pieces")
_CLAIM = """
local fingerprint, token, stale_token, stale_beat, seconds = unpack(ARGV)
local known = redis.call('HMGET', KEYS[1], 'token', 'state', 'charged', 'beat')
local fresh = not known[1]
if known[1] == stale_token and known[2] == 'running' and known[4] == stale_beat then
    if known[3] == '1' then
        redis.call('HSET', KEYS[1], 'state', 'lost')
    else
        fresh = true
    end
end
if fresh then
    redis.call('DEL', KEYS[1], KEYS[2])
    redis.call('HSET', KEYS[1], 'fingerprint', fingerprint, 'token', token, 'state', 'running',
        'charged', 0, 'beat', 0, 'pieces', 0)
    redis.call('EXPIRE', KEYS[1], seconds)
end
return redis.call('HMGET', KEYS[1], 'fingerprint', 'token', 'state', 'charged', 'beat', 'pieces')
"""
_REPORT = """
local token, position, charged, state, seconds = unpack(ARGV, 1, 5)
if redis.call('HGET', KEYS[1], 'token') ~= token then
    return 0
end
if tonumber(position) == 0 or (state ~= 'running' and state ~= 'done') then
    redis.call('DEL', KEYS[2])
else
    redis.call('LTRIM', KEYS[2], 0, position - 1)
end
if state == 'running' or state == 'done' then
    for index = 6, #ARGV do
        redis.call('RPUSH', KEYS[2], ARGV[index])
    end
end
if charged == '1' then
    redis.call('HSET', KEYS[1], 'charged', 1)
end
redis.call('HSET', KEYS[1], 'state', state, 'pieces', redis.call('LLEN', KEYS[2]))
redis.call('HINCRBY', KEYS[1], 'beat', 1)
redis.call('EXPIRE', KEYS[1], seconds)
redis.call('EXPIRE', KEYS[2], seconds)
return 1
"""
_DROP = """
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then
    redis.call('DEL', KEYS[1], KEYS[2])
end
"""


class RedisAnswerStore:
    """Keeps answers in Redis.

    How much they may weigh together is for Redis to say (``maxmemory``). It must not evict them
    (``noeviction``), and keep them over a restart (``appendonly``): a key that it forgets is new.
    """

    timeout_seconds = REDIS_TIMEOUT_SECONDS

    def __init__(self, client: "Redis") -> None:
        self._client = client
        self._claim = client.register_script(_CLAIM)
        self._report = client.register_script(_REPORT)
        self._drop = client.register_script(_DROP)

    @classmethod
    def connect(cls, uri: str) -> Self:
        """Make a client; it connects once it is needed.

        Raises:
            ValueError: the address is not one.
        """
        return cls(connect_redis(uri, timeout_seconds=REDIS_TIMEOUT_SECONDS))

    async def claim(
        self, name: bytes, fingerprint: bytes, token: bytes, stale: KeyEntry | None
    ) -> KeyEntry:
        """See `AnswerStore`."""
        seen: tuple[bytes, int] = (stale.token, stale.beat) if stale else (b"", 0)
        found = await self._claim(
            keys=_keys(name), args=[fingerprint, token, *seen, EXPIRE_SECONDS]
        )
        return _entry(found)

    async def report(self, name: bytes, token: bytes, report: KeyReport) -> bool:
        """See `AnswerStore`."""
        owned = await self._report(
            keys=_keys(name),
            args=[
                token,
                report.position,
                int(report.charged),
                report.state.value,
                EXPIRE_SECONDS,
                *report.pieces,
            ],
        )
        return bool(owned)

    async def read(
        self, name: bytes, token: bytes, position: int
    ) -> tuple[KeyEntry, list[bytes]] | None:
        """See `AnswerStore`."""
        key, pieces_key = _keys(name)
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.hmget(key, _FIELDS)
            pipeline.lrange(pieces_key, position, position + _READ_PIECES - 1)
            found, pieces = await pipeline.execute()
        if found[1] != token:
            return None
        return _entry(found), pieces

    async def drop(self, name: bytes, token: bytes) -> None:
        """See `AnswerStore`."""
        await self._drop(keys=_keys(name), args=[token])

    async def aclose(self) -> None:
        """See `AnswerStore`."""
        await self._client.aclose()


def _keys(name: bytes) -> list[bytes]:
    # The braces keep both on one node of a cluster.
    key = b"ai-proxy:answer:{" + name.hex().encode() + b"}"
    return [key, key + b":pieces"]


def _entry(found: Sequence[Any]) -> KeyEntry:
    fingerprint, token, state, charged, beat, pieces = found
    return KeyEntry(
        fingerprint, token, KeyState(state.decode()), charged == b"1", int(beat), int(pieces)
    )
