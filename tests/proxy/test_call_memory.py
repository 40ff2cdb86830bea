"""Keeping thought signatures by call id: on every store, bounded, and never in the way."""

import asyncio
import os
import socket
import sqlite3
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
import structlog

from ai_proxy_service.core.owned_names import owned_name
from ai_proxy_service.services import call_memory, call_stores
from ai_proxy_service.services.call_memory import (
    VALUE_BYTES_MAX,
    StoredCallMemory,
    open_call_memory,
)
from ai_proxy_service.services.call_stores import (
    EXPIRE_SECONDS,
    Bounds,
    MemoryCallStore,
    RedisCallStore,
    SqliteCallStore,
)
from support.components import skip_or_fail

REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379")
STORES = ("memory", "file", "redis")


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def redis_url(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a Redis that answers, which is given time on a busy machine."""
    try:
        with redis.Redis.from_url(REDIS_URL, socket_timeout=5) as client:
            client.ping()
    except redis.RedisError as error:
        skip_or_fail(f"Redis could not be reached: {error}")
    monkeypatch.setattr(call_stores, "REDIS_TIMEOUT_SECONDS", 30)
    monkeypatch.setattr(RedisCallStore, "timeout_seconds", 30)
    return REDIS_URL


@pytest.fixture
def account() -> str:
    """Return an account that no other test has."""
    return f"account-{uuid.uuid4().hex}"


@pytest.fixture(params=STORES)
def uri(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """`CALL_MEMORY_URI` of each store."""
    monkeypatch.setattr(SqliteCallStore, "timeout_seconds", 30)
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return {"memory": "memory://", "file": ""}[request.param]


@pytest.fixture
async def memory(uri: str, tmp_path: Path) -> AsyncIterator[StoredCallMemory]:
    memory = await open_call_memory(uri, tmp_path / "data")
    yield memory
    await memory.aclose()


async def test_what_was_remembered_is_recalled_and_the_rest_left_out(
    memory: StoredCallMemory, account: str
) -> None:
    await memory.remember(account, {"call_1": b"one", "call_2": b"\x00\xff"})

    found = await memory.recall(account, ["call_2", "call_3", "call_1"])

    assert found == {"call_1": b"one", "call_2": b"\x00\xff"}
    assert await memory.recall(account, []) == {}


async def test_a_call_that_is_remembered_again_has_its_last_value(
    memory: StoredCallMemory, account: str
) -> None:
    await memory.remember(account, {"call": b"old"})
    await memory.remember(account, {"call": b"new"})

    assert await memory.recall(account, ["call"]) == {"call": b"new"}


async def test_no_account_reaches_the_calls_of_another(
    memory: StoredCallMemory, account: str
) -> None:
    await memory.remember(f"{account}:a", {"b": b"secret"})

    assert await memory.recall(account, [":ab", "a:b", ":a:b", "b"]) == {}
    assert await memory.recall(f"{account}:", ["ab"]) == {}


async def test_any_text_will_do_as_an_id(memory: StoredCallMemory, account: str) -> None:
    ids = ["", "\x00", "\udcff", "a\r\nb", "ä" * 10_000, "'; DROP TABLE calls; --"]
    await memory.remember(
        account, {call_id: call_id[:3].encode("utf-8", "replace") for call_id in ids}
    )

    found = await memory.recall(account, ids)

    assert set(found) == set(ids)


async def test_a_value_that_is_too_large_is_not_kept(
    memory: StoredCallMemory, account: str
) -> None:
    await memory.remember(
        account, {"small": b"x" * VALUE_BYTES_MAX, "large": b"x" * (VALUE_BYTES_MAX + 1)}
    )

    assert set(await memory.recall(account, ["small", "large"])) == {"small"}


async def test_a_long_conversation_is_recalled_whole(
    memory: StoredCallMemory, account: str
) -> None:
    calls = {f"call_{number}": str(number).encode() for number in range(1200)}
    await memory.remember(account, calls)

    assert await memory.recall(account, list(calls)) == calls


async def test_many_may_use_it_at_the_same_time(memory: StoredCallMemory, account: str) -> None:
    async def use(number: int) -> Mapping[str, bytes]:
        await memory.remember(account, {f"call_{number}": b"value"})
        return await memory.recall(account, [f"call_{number}"])

    found = await asyncio.gather(*(use(number) for number in range(100)))

    assert all(len(each) == 1 for each in found)


@pytest.mark.parametrize("kind", ["file", "redis"])
async def test_processes_share_what_one_of_them_remembered(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, account: str
) -> None:
    uri = request.getfixturevalue("redis_url") if kind == "redis" else ""
    one, other = [await open_call_memory(uri, tmp_path) for _ in range(2)]

    await one.remember(account, {"call": b"value"})
    assert await other.recall(account, ["call"]) == {"call": b"value"}
    await other.remember(account, {"call": b"newer"})
    assert await one.recall(account, ["call"]) == {"call": b"newer"}

    await one.aclose()
    await other.aclose()


async def test_a_file_survives_the_process(tmp_path: Path, account: str) -> None:
    first = await open_call_memory("", tmp_path)
    await first.remember(account, {"call": b"value"})
    await first.aclose()

    again = await open_call_memory("", tmp_path)

    assert await again.recall(account, ["call"]) == {"call": b"value"}
    await again.aclose()


async def test_valkey_is_spoken_to_as_redis_is(
    redis_url: str, tmp_path: Path, account: str
) -> None:
    one = await open_call_memory(redis_url, tmp_path)
    other = await open_call_memory(redis_url.replace("redis://", "valkey://"), tmp_path)
    await one.remember(account, {"call": b"value"})

    assert await other.recall(account, ["call"]) == {"call": b"value"}

    await one.aclose()
    await other.aclose()


async def test_redis_is_told_when_a_value_expires(redis_url: str, account: str) -> None:
    store = RedisCallStore.connect(redis_url)
    await StoredCallMemory(store).remember(account, {"call": b"value"})

    with redis.Redis.from_url(redis_url) as observer:
        key = call_stores._redis_key(owned_name(account, "call"))
        seconds = observer.ttl(key)

    assert isinstance(seconds, int)
    assert EXPIRE_SECONDS - 600 < seconds <= EXPIRE_SECONDS
    await store.aclose()


def _keys(count: int) -> list[bytes]:
    return [number.to_bytes(4, "big") for number in range(count)]


Open = Callable[[Bounds], Awaitable[MemoryCallStore | SqliteCallStore]]


@pytest.fixture(params=["memory", "file"])
async def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncIterator[Open]:
    opened: list[MemoryCallStore | SqliteCallStore] = []

    async def open_bounded(bounds: Bounds) -> MemoryCallStore | SqliteCallStore:
        store: MemoryCallStore | SqliteCallStore
        if request.param == "memory":
            store = MemoryCallStore(bounds, clock)
        else:
            store = await SqliteCallStore.open(tmp_path / "c.sqlite3", bounds=bounds, clock=clock)
        opened.append(store)
        return store

    yield open_bounded
    for store in opened:
        await store.aclose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_value_is_gone_once_it_has_expired(open_store: Open, clock: Clock) -> None:
    store = await open_store(Bounds(seconds=60))
    await store.put({b"key": b"value"})

    clock.now += 60
    assert await store.get([b"key"]) == {b"key": b"value"}
    clock.now += 1
    assert await store.get([b"key"]) == {}


async def test_only_so_many_values_are_kept_and_the_newest_of_them(open_store: Open) -> None:
    store = await open_store(Bounds(calls=10))
    keys = _keys(45)
    for key in keys:
        await store.put({key: b"value"})

    found = await store.get(keys)

    assert set(keys[-10:]) <= set(found)
    assert len(found) == 10


async def test_values_weigh_only_so_much_together(open_store: Open) -> None:
    store = await open_store(Bounds(calls=200, stored_bytes=200_000))
    keys = _keys(200)
    for key in keys:
        await store.put({key: b"x" * 40_000})

    found = await store.get(keys)

    assert keys[-1] in found
    assert len(found) <= 20


async def test_a_file_that_has_grown_too_large_is_pruned_to_its_bound_and_no_further(
    tmp_path: Path,
) -> None:
    store = await SqliteCallStore.open(tmp_path / "c.sqlite3", bounds=Bounds(calls=100))
    keys = _keys(1000)
    await store.put(dict.fromkeys(keys, b"value"))
    assert len(await store.get(keys)) == 100

    await store.put(dict.fromkeys(keys[:99], b"again"))

    assert set(await store.get(keys)) == {*keys[:99], keys[-1]}
    await store.aclose()


async def test_expired_values_leave_the_file(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "c.sqlite3"
    store = await SqliteCallStore.open(path, bounds=Bounds(calls=50, seconds=60), clock=clock)
    await store.put(dict.fromkeys(_keys(40), b"value"))
    clock.now += 61
    await store.put({b"%d" % number: b"value" for number in range(50)})
    await store.aclose()

    with sqlite3.connect(path) as database:
        (count,) = database.execute("SELECT count(*) FROM calls").fetchone()
    database.close()
    assert count == 50


async def test_values_that_were_asked_for_outlive_the_others(clock: Clock) -> None:
    store = MemoryCallStore(Bounds(calls=2), clock)
    await store.put({b"asked": b"1", b"other": b"2"})
    await store.get([b"asked"])
    await store.put({b"new": b"3"})

    assert set(await store.get([b"asked", b"other", b"new"])) == {b"asked", b"new"}


async def test_a_file_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("not a folder")
    with pytest.raises(OSError, match="taken"):
        await open_call_memory("", tmp_path / "taken")

    (tmp_path / call_memory.FILE_NAME).write_text("not a database, but long enough to be one")
    with pytest.raises(sqlite3.DatabaseError):
        await open_call_memory("", tmp_path)


async def test_an_address_of_a_store_that_is_none_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="port"):
        await open_call_memory("redis://127.0.0.1:port", tmp_path)


class BrokenStore:
    """A store that fails until it is mended, and counts how often it is asked."""

    timeout_seconds = 30.0

    def __init__(self) -> None:
        self.asked = 0
        self.broken = True

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        self.asked += 1
        if self.broken:
            raise sqlite3.OperationalError("disk I/O error")
        return dict.fromkeys(keys, b"value")

    async def put(self, values: Mapping[bytes, bytes]) -> None:
        await self.get([])

    async def aclose(self) -> None:
        """Nothing is held."""


async def test_a_store_that_fails_knows_nothing_and_is_left_alone_for_a_while(
    clock: Clock,
) -> None:
    store = BrokenStore()
    memory = StoredCallMemory(store, monotonic=clock)

    with structlog.testing.capture_logs() as entries:
        for _ in range(3):
            assert await memory.recall("account", ["call"]) == {}
            await memory.remember("account", {"call": b"value"})
        assert store.asked == 1
        clock.now += call_memory.STORE_RETRY_SECONDS
        assert await memory.recall("account", ["call"]) == {}
        assert store.asked == 2
        store.broken = False
        assert await memory.recall("account", ["call"]) == {}
        clock.now += call_memory.STORE_RETRY_SECONDS
        assert await memory.recall("account", ["call"]) == {"call": b"value"}

    assert [(entry["event"], entry["log_level"]) for entry in entries] == [
        ("call_memory_unavailable", "warning"),
        ("call_memory_available", "info"),
    ]


async def test_a_closed_file_fails_as_quietly_as_any_store(tmp_path: Path) -> None:
    memory = await open_call_memory("", tmp_path)
    await memory.aclose()

    await memory.remember("account", {"call": b"value"})

    assert await memory.recall("account", ["call"]) == {}


async def test_a_redis_that_refuses_is_no_ones_trouble(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    memory = await open_call_memory(f"redis://127.0.0.1:{port}", tmp_path)

    with structlog.testing.capture_logs() as entries:
        await memory.remember("account", {"call": b"value"})
        assert await memory.recall("account", ["call"]) == {}

    assert [entry["event"] for entry in entries] == ["call_memory_unavailable"]
    await memory.aclose()


@asynccontextmanager
async def _silent_server() -> AsyncIterator[tuple[int, list[asyncio.Task[None]]]]:
    """A server that takes every question and answers none; with it, its connections' tasks."""
    connections: list[asyncio.Task[None]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.append(task)
        await reader.read()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], connections
    server.close()
    await server.wait_closed()
    await asyncio.gather(*connections)


async def test_a_redis_that_hangs_is_given_up_and_left_alone(tmp_path: Path) -> None:
    async with _silent_server() as (port, connections):
        memory = await open_call_memory(f"redis://127.0.0.1:{port}", tmp_path)

        found = await asyncio.gather(*(memory.recall("account", ["call"]) for _ in range(100)))
        tried = len(connections)
        assert await memory.recall("account", ["call"]) == {}

        assert found == [{}] * 100
        assert len(connections) == tried > 0
        await memory.aclose()


async def test_a_question_that_is_cancelled_spoils_no_connection(
    redis_url: str, tmp_path: Path, account: str
) -> None:
    memory = await open_call_memory(redis_url, tmp_path)
    await memory.remember(account, {"call": b"value"})
    for _ in range(5):
        question = asyncio.create_task(memory.recall(account, ["other"]))
        await asyncio.sleep(0)
        question.cancel()
        await asyncio.gather(question, return_exceptions=True)

    assert await memory.recall(account, ["call"]) == {"call": b"value"}
    await memory.aclose()
