"""Counts in memory need no thread, and forget what has expired."""

import threading

import pytest
from limits import RateLimitItemPerMinute
from limits.storage import memory, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from service_kit import memory_counts
from service_kit.memory_counts import LoopMemoryStorage

LIMIT = RateLimitItemPerMinute(3)


class Clock:
    """Stands in for the module `time`, and is moved by a test."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def time(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (memory, memory_counts):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def storage() -> LoopMemoryStorage:
    return LoopMemoryStorage()


def test_the_window_moves_with_each_request(storage: LoopMemoryStorage, clock: Clock) -> None:
    limiter = MovingWindowRateLimiter(storage)
    admitted: list[bool] = []
    left: list[int] = []

    for at_seconds in (0, 10, 20, 30, 59, 61, 62, 71, 81, 82):
        clock.seconds = 1_000.0 + at_seconds
        admitted.append(limiter.hit(LIMIT, "ann"))
        left.append(limiter.get_window_stats(LIMIT, "ann").remaining)

    assert admitted == [True, True, True, False, False, True, False, True, True, False]
    assert left == [2, 1, 0, 0, 0, 0, 0, 0, 0, 0]


def test_keys_that_nobody_uses_any_more_are_forgotten(
    storage: LoopMemoryStorage, clock: Clock
) -> None:
    limiter = MovingWindowRateLimiter(storage)
    for number in range(1000):
        clock.seconds += 0.01
        limiter.hit(LIMIT, f"address-{number}")
    clock.seconds += 55
    limiter.hit(LIMIT, "address-0")
    clock.seconds += 6

    limiter.hit(LIMIT, "address-1")

    assert len(storage.windows) == 2


def test_of_a_key_that_is_used_on_only_the_window_is_kept(
    storage: LoopMemoryStorage, clock: Clock
) -> None:
    limiter = MovingWindowRateLimiter(storage)
    for _ in range(300):
        clock.seconds += 20.5
        assert limiter.hit(LIMIT, "ann")

    (window,) = storage.windows.values()
    assert len(window) == 3


def test_what_was_forgotten_on_purpose_counts_no_more(storage: LoopMemoryStorage) -> None:
    limiter = MovingWindowRateLimiter(storage)
    for name in ("ann", "bob"):
        assert limiter.hit(LIMIT, name, cost=3)
        assert not limiter.hit(LIMIT, name)
    limiter.clear(LIMIT, "ann")
    assert (limiter.hit(LIMIT, "ann"), limiter.hit(LIMIT, "bob")) == (True, False)
    assert storage.reset() == 2
    assert limiter.hit(LIMIT, "bob")


def test_more_than_a_window_holds_is_never_admitted(storage: LoopMemoryStorage) -> None:
    assert not MovingWindowRateLimiter(storage).hit(LIMIT, "ann", cost=4)
    assert storage.windows == {}


def test_no_thread_is_started(monkeypatch: pytest.MonkeyPatch, storage: LoopMemoryStorage) -> None:
    started: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", started.append)
    limiter = MovingWindowRateLimiter(storage)

    for number in range(100):
        limiter.hit(LIMIT, f"address-{number}")

    assert started == []


def test_it_is_found_by_its_name() -> None:
    assert isinstance(storage_from_string("loop-memory://"), LoopMemoryStorage)
