"""Several keys in turn, and keys in trouble left out for a while."""

import pytest
from structlog.testing import capture_logs

from ai_proxy_service.services.key_pool import KeyPool


class Clock:
    """Shows the time that it is set to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(pool: KeyPool, count: int) -> str:
    return "".join(pool.take() for _ in range(count))


@pytest.mark.parametrize(("keys", "expected"), [("a", "aaaa"), ("ab", "abab"), ("abc", "abca")])
def test_keys_are_used_in_turn(keys: str, expected: str, clock: Clock) -> None:
    assert taken(KeyPool(keys, clock), 4) == expected


def test_a_key_in_trouble_comes_back_after_its_time(clock: Clock) -> None:
    pool = KeyPool("abc", clock)

    assert pool.set_aside("b", 10)
    assert taken(pool, 4) == "acac"
    clock.seconds += 9.9
    assert "b" not in taken(pool, 4)
    clock.seconds += 0.1
    assert "b" in taken(pool, 3)


def test_the_last_word_on_a_key_counts(clock: Clock) -> None:
    pool = KeyPool("ab", clock)
    pool.set_aside("a", 10)
    pool.set_aside("a", 50)

    clock.seconds += 20

    assert taken(pool, 3) == "bbb"


def test_the_only_key_is_never_set_aside(clock: Clock) -> None:
    pool = KeyPool("a", clock)

    assert not pool.set_aside("a", 1_000)
    assert taken(pool, 2) == "aa"


def test_where_all_are_in_trouble_the_one_that_comes_back_first_is_used(clock: Clock) -> None:
    pool = KeyPool("abc", clock)

    assert pool.set_aside("a", 30)
    assert pool.set_aside("b", 10)
    assert not pool.set_aside("c", 20)

    assert taken(pool, 2) == "bb"
    clock.seconds += 10
    assert taken(pool, 2) == "bb"


def test_a_key_is_logged_by_its_number_once(clock: Clock) -> None:
    pool = KeyPool(["AIza-first", "AIza-second"], clock)

    with capture_logs() as logs:
        pool.set_aside("AIza-second", 10)
        pool.set_aside("AIza-second", 10)

    (entry,) = logs
    assert (entry["key_number"], entry["keys"]) == (2, 2)
    assert "AIza" not in str(logs)
