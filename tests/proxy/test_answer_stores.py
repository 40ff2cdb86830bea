"""Stores of answers: one set of rules for who answers a key, bounded in time, number and size."""

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiosqlite
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_proxy_service.core.answers import (
    AnswerStore,
    KeyEntry,
    KeyReport,
    KeyState,
    claimed,
    reported,
)
from ai_proxy_service.services import answer_store_redis, answer_store_sqlite
from ai_proxy_service.services.answer_bounds import EXPIRE_SECONDS, AnswerBounds
from ai_proxy_service.services.answer_store_redis import RedisAnswerStore
from ai_proxy_service.services.answer_store_sqlite import SqliteAnswerStore
from ai_proxy_service.services.answer_stores import FILE_NAME, MemoryAnswerStore, open_answer_store
from support.answer_stores import KINDS, SHARED_KINDS, new_name, store_uri

PRINT = b"fingerprint"
RUN, OTHER = b"run", b"other run"
RUNNING = KeyEntry(PRINT, RUN)
CHARGED = replace(RUNNING, charged=True)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnswerStore]:
    store = await open_answer_store(store_uri(request.param), tmp_path)
    yield store
    await store.aclose()


@pytest.mark.parametrize(
    ("known", "stale", "expected"),
    [
        (None, None, KeyEntry(PRINT, OTHER)),
        (RUNNING, None, RUNNING),
        (replace(RUNNING, beat=4), RUNNING, replace(RUNNING, beat=4)),
        (RUNNING, replace(RUNNING, token=b"a third"), RUNNING),
        (RUNNING, RUNNING, KeyEntry(PRINT, OTHER)),
        (CHARGED, CHARGED, replace(CHARGED, state=KeyState.LOST)),
        (CHARGED, RUNNING, replace(CHARGED, state=KeyState.LOST)),
        *(
            (entry, entry, entry)
            for state in KeyState
            if state is not KeyState.RUNNING
            for entry in [replace(CHARGED, state=state)]
        ),
    ],
)
async def test_a_key_is_taken_over_only_from_a_run_that_stands_still_and_was_not_charged(
    known: KeyEntry | None, stale: KeyEntry | None, expected: KeyEntry
) -> None:
    assert claimed(known, PRINT, OTHER, stale) == expected


def test_a_report_counts_pieces_and_never_takes_a_charge_back() -> None:
    begun = reported(RUNNING, KeyReport(0, [b"a", b"b"], charged=True))
    done = reported(begun, KeyReport(2, [b"c"], state=KeyState.DONE))

    assert begun == replace(RUNNING, charged=True, beat=1, pieces=2)
    assert done == replace(RUNNING, charged=True, beat=2, pieces=3, state=KeyState.DONE)
    assert reported(done, KeyReport(state=KeyState.TOO_LARGE)).pieces == 0


@dataclass
class Model:
    """What a store has to do, said as plainly as can be."""

    entries: dict[bytes, KeyEntry] = field(default_factory=dict)
    pieces: dict[bytes, list[bytes]] = field(default_factory=dict)

    def claim(self, name: bytes, print_: bytes, token: bytes, stale: KeyEntry | None) -> KeyEntry:
        entry = claimed(self.entries.get(name), print_, token, stale)
        if entry.token == token and entry.beat == 0 and self.entries.get(name) != entry:
            self.pieces[name] = []
        self.entries[name] = entry
        return entry

    def report(self, name: bytes, token: bytes, report: KeyReport) -> bool:
        known = self.entries.get(name)
        if known is None or known.token != token:
            return False
        self.entries[name] = entry = reported(known, report)
        kept = [*self.pieces[name][: report.position], *report.pieces]
        self.pieces[name] = kept[: entry.pieces]
        return True

    def read(self, name: bytes, token: bytes) -> tuple[KeyEntry, list[bytes]] | None:
        known = self.entries.get(name)
        return (known, self.pieces[name]) if known and known.token == token else None

    def drop(self, name: bytes, token: bytes) -> None:
        known = self.entries.get(name)
        if known is not None and known.token == token:
            del self.entries[name]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "take over", "late take over", "report", "report", "drop"]),
        st.integers(0, 1),
        st.lists(st.binary(max_size=3), max_size=2),
        st.booleans(),
        st.sampled_from([KeyState.RUNNING, KeyState.RUNNING, KeyState.DONE, KeyState.TOO_LARGE]),
    ),
    max_size=25,
)
Step = tuple[str, int, list[bytes], bool, KeyState]


async def follow_model(store: AnswerStore, steps: list[Step]) -> None:
    """Take each step in the store and in the model; they never differ."""
    model = Model()
    names = [new_name(), new_name()]
    runs: dict[bytes, list[bytes]] = {name: [b"nobody's"] for name in names}
    seen: dict[bytes, KeyEntry | None] = dict.fromkeys(names)
    for step, index, pieces, charged, state in steps:
        name = names[index]
        # By turns the first run, which may have lost the key, and the last one.
        token = runs[name][-1 if charged else 0]
        if "claim" in step or "take" in step:
            fresh = uuid.uuid4().bytes
            stale = {"claim": None, "take over": model.entries.get(name)}.get(step, seen[name])
            print_ = bytes([index])
            entry = await store.claim(name, print_, fresh, stale)
            assert entry == model.claim(name, print_, fresh, stale)
            seen[name] = seen[name] or entry
            runs[name].append(entry.token)
        elif step == "report":
            known = model.entries.get(name)
            report = KeyReport(known.pieces if known else 0, pieces, charged, state)
            assert await store.report(name, token, report) == model.report(name, token, report)
        else:
            await store.drop(name, token)
            model.drop(name, token)
        for each in {*runs[name]}:
            assert await store.read(name, each, 0) == model.read(name, each)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_every_store_follows_the_rules(
    kind: str, steps: list[Step], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def run() -> None:
        store = await open_answer_store(store_uri(kind), tmp_path_factory.mktemp("answers"))
        try:
            await follow_model(store, steps)
        finally:
            await store.aclose()

    asyncio.run(run())


async def test_of_all_who_claim_a_key_at_the_same_time_one_has_it(store: AnswerStore) -> None:
    name = new_name()
    tokens = [uuid.uuid4().bytes for _ in range(20)]

    entries = await asyncio.gather(*(store.claim(name, PRINT, token, None) for token in tokens))
    (owner,) = {entry.token for entry in entries}
    takers = [uuid.uuid4().bytes for _ in range(20)]
    again = await asyncio.gather(*(store.claim(name, PRINT, taker, entries[0]) for taker in takers))

    assert owner in tokens
    assert len({entry.token for entry in again}) == 1
    assert again[0].token in takers


async def test_a_run_that_has_reported_since_it_was_seen_keeps_its_key(store: AnswerStore) -> None:
    name = new_name()
    seen = await store.claim(name, PRINT, RUN, None)
    await store.report(name, RUN, KeyReport())

    assert (await store.claim(name, PRINT, OTHER, seen)).token == RUN
    now = await store.claim(name, PRINT, OTHER, None)
    assert (await store.claim(name, PRINT, OTHER, now)).token == OTHER


async def test_a_report_that_is_made_again_adds_nothing(store: AnswerStore) -> None:
    """Its first answer may have been lost on the way."""
    name = new_name()
    await store.claim(name, PRINT, RUN, None)
    await store.report(name, RUN, KeyReport(0, [b"a"]))
    for _ in range(2):
        assert await store.report(name, RUN, KeyReport(1, [b"b", b"c"]))

    found = await store.read(name, RUN, 1)

    assert found is not None
    assert (found[0].pieces, found[1]) == (3, [b"b", b"c"])


async def test_a_long_answer_is_read_in_several_goes(store: AnswerStore) -> None:
    name = new_name()
    await store.claim(name, PRINT, RUN, None)
    pieces = [bytes([number]) * 1000 for number in range(200)]
    await store.report(name, RUN, KeyReport(0, pieces, charged=True, state=KeyState.DONE))

    read: list[bytes] = []
    while found := await store.read(name, RUN, len(read)):
        if not found[1]:
            break
        read += found[1]

    assert read == pieces


async def test_many_runs_report_side_by_side(store: AnswerStore) -> None:
    """What one of them leaves behind must not disturb another's report."""

    async def report(name: bytes) -> None:
        await store.claim(name, PRINT, name, None)
        for position in range(0, 200, 5):
            assert await store.report(name, name, KeyReport(position, [b"piece"] * 5))

    await asyncio.gather(*(report(new_name()) for _ in range(60)))


@pytest.mark.parametrize("kind", SHARED_KINDS)
async def test_processes_share_what_they_know(kind: str, tmp_path: Path) -> None:
    name = new_name()
    one, other = [await open_answer_store(store_uri(kind), tmp_path) for _ in range(2)]
    await one.claim(name, PRINT, RUN, None)
    await one.report(name, RUN, KeyReport(0, [b"piece"], charged=True, state=KeyState.DONE))

    entry = await other.claim(name, PRINT, OTHER, None)
    found = await other.read(name, entry.token, 0)

    assert found == (KeyEntry(PRINT, RUN, KeyState.DONE, True, 1, 1), [b"piece"])
    await one.aclose()
    await other.aclose()


async def test_redis_is_told_when_all_of_an_answer_expires() -> None:
    store = RedisAnswerStore.connect(store_uri("redis"))
    name = new_name()
    await store.claim(name, PRINT, RUN, None)
    await store.report(name, RUN, KeyReport(0, [b"piece"]))

    with redis.Redis.from_url(store_uri("redis")) as observer:
        seconds = [observer.ttl(key) for key in answer_store_redis._keys(name)]

    assert all(
        isinstance(each, int) and EXPIRE_SECONDS - 600 < each <= EXPIRE_SECONDS for each in seconds
    )
    await store.aclose()


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


Open = Callable[[AnswerBounds], Awaitable[AnswerStore]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "file"])
async def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncIterator[Open]:
    opened: list[AnswerStore] = []

    async def open_bounded(bounds: AnswerBounds) -> AnswerStore:
        store: AnswerStore
        if request.param == "memory":
            store = MemoryAnswerStore(bounds, clock)
        else:
            store = await SqliteAnswerStore.open(tmp_path / FILE_NAME, bounds=bounds, clock=clock)
        opened.append(store)
        return store

    yield open_bounded
    for store in opened:
        await store.aclose()


async def keep(store: AnswerStore, number: int, weight_bytes: int = 1) -> None:
    """Keep a finished answer."""
    name = bytes([number])
    await store.claim(name, PRINT, name, None)
    report = KeyReport(0, [b"x" * weight_bytes], charged=True, state=KeyState.DONE)
    assert await store.report(name, name, report)


async def states(store: AnswerStore, numbers: range) -> list[str | None]:
    """Return what is known of answers."""
    found = [await store.read(bytes([number]), bytes([number]), 0) for number in numbers]
    return [None if each is None else each[0].state.value for each in found]


async def test_a_key_is_new_again_once_its_answer_has_expired(
    open_store: Open, clock: Clock
) -> None:
    store = await open_store(AnswerBounds(seconds=60))
    await keep(store, 1)

    clock.now += 60
    assert (await store.claim(bytes([1]), b"another", OTHER, None)).token == bytes([1])
    clock.now += 1
    entry = await store.claim(bytes([1]), b"another", OTHER, None)

    assert entry == KeyEntry(b"another", OTHER)
    assert await store.read(bytes([1]), OTHER, 0) == (entry, [])


async def test_only_so_many_keys_are_known_and_the_newest_of_them(
    open_store: Open, clock: Clock
) -> None:
    store = await open_store(AnswerBounds(answers=5))
    await store.claim(b"running", PRINT, RUN, None)
    for number in range(20):
        clock.now += 1
        await keep(store, number)

    found = await states(store, range(20))

    assert found.count("done") <= 10
    assert found[-1] == "done"
    assert found[0] is None
    assert await store.read(b"running", RUN, 0) is not None


async def test_of_answers_that_are_too_heavy_is_kept_that_they_were_given(
    open_store: Open, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeat is refused then, instead of being charged a second time."""
    monkeypatch.setattr(answer_store_sqlite, "_PRUNE_EVERY", 1)
    store = await open_store(AnswerBounds(stored_bytes=2500))
    for number in range(5):
        clock.now += 1
        await keep(store, number, 1000)
    await store.claim(b"the next", PRINT, OTHER, None)

    assert await states(store, range(5)) == ["pruned"] * 3 + ["done"] * 2
    assert (await store.claim(bytes([0]), PRINT, OTHER, None)).state is KeyState.PRUNED


async def test_pieces_of_what_is_forgotten_leave_the_file(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_store_sqlite, "_PRUNE_EVERY", 1)
    bounds = AnswerBounds(stored_bytes=1500, seconds=60)
    store = await SqliteAnswerStore.open(tmp_path / FILE_NAME, bounds=bounds, clock=clock)
    await keep(store, 1)
    await store.drop(bytes([1]), bytes([1]))
    await keep(store, 2)
    clock.now += 61
    await keep(store, 3, 1000)
    clock.now += 1
    await keep(store, 4, 1000)
    await store.claim(b"the next", PRINT, OTHER, None)
    await store.aclose()

    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        tokens = [row[0] for row in database.execute("SELECT token FROM pieces")]
    database.close()
    assert tokens == [bytes([4])]


async def test_what_was_charged_survives_a_power_cut(tmp_path: Path) -> None:
    """Those reports are synced to the disk; the others may be lost with the power."""
    store = await SqliteAnswerStore.open(tmp_path / FILE_NAME)

    assert [await _pragma(connection) for connection in (store._quick, store._durable)] == [1, 2]
    await store.aclose()


async def _pragma(connection: aiosqlite.Connection) -> int:
    async with connection.execute("PRAGMA synchronous") as cursor:
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def test_a_store_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("not a folder")
    with pytest.raises(OSError, match="taken"):
        await open_answer_store("", tmp_path / "taken")
    with pytest.raises(ValueError, match="port"):
        await open_answer_store("redis://127.0.0.1:port", tmp_path)
