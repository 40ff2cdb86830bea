"""A store that is lost, and back, is told once, however many find out."""

from collections.abc import MutableMapping
from typing import Any

import pytest

from service_kit import store_health
from service_kit.metrics import LimitStoreMetrics, MetricsRegistry
from service_kit.store_health import RETRY_SECONDS, StoreHealth, limits_view
from support.kit_app import AUTHORIZED, StartApp

LOST, BACK = "rate_limit_store_unavailable", "rate_limit_store_available"


class Clock:
    """Stands in for the module `time`, and is moved by a test."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(store_health, "time", clock)
    return clock


@pytest.fixture
def registry() -> MetricsRegistry:
    return MetricsRegistry()


@pytest.fixture
def health(registry: MetricsRegistry, clock: Clock) -> StoreHealth:
    del clock
    return StoreHealth(LimitStoreMetrics(registry.registry), "redis://store:6379")


def test_many_that_wait_for_a_lost_store_write_one_line_and_are_all_counted(
    health: StoreHealth, registry: MetricsRegistry, log_entries: list[MutableMapping[str, Any]]
) -> None:
    assert all(health.may_ask() for _ in range(20))

    for _ in range(20):
        health.note_error(TimeoutError())

    assert [entry["event"] for entry in log_entries] == [LOST]
    assert log_entries[0]["error"] == "TimeoutError"
    assert limits_view(registry.readings()) == {
        "store": "redis",
        "store_up": False,
        "store_errors": 20,
    }


def test_one_in_a_while_tries_a_lost_store_and_finds_it_lost_without_a_further_line(
    health: StoreHealth, clock: Clock, log_entries: list[MutableMapping[str, Any]]
) -> None:
    health.note_error(ConnectionError())
    admitted: list[int] = []

    for _ in range(3):
        clock.seconds += RETRY_SECONDS
        admitted.append(sum(health.may_ask() for _ in range(10)))
        health.note_error(ConnectionError())

    assert admitted == [1, 1, 1]
    assert [entry["event"] for entry in log_entries] == [LOST]


def test_an_answer_brings_it_back_with_one_line_that_says_how_long_it_was_away(
    health: StoreHealth,
    clock: Clock,
    registry: MetricsRegistry,
    log_entries: list[MutableMapping[str, Any]],
) -> None:
    health.note_error(TimeoutError())
    clock.seconds += RETRY_SECONDS + 2
    assert health.may_ask()

    health.note_answer()

    assert [entry["event"] for entry in log_entries] == [LOST, BACK]
    assert log_entries[1]["away_seconds"] == RETRY_SECONDS + 2
    assert limits_view(registry.readings())["store_up"] is True
    assert all(health.may_ask() for _ in range(10))


def test_what_was_asked_before_it_was_lost_does_not_bring_it_back(
    health: StoreHealth, registry: MetricsRegistry, log_entries: list[MutableMapping[str, Any]]
) -> None:
    """Of those that a slow store kept waiting some may be answered just in time."""
    for _ in range(3):
        health.note_error(TimeoutError())
        health.note_answer()

    assert [entry["event"] for entry in log_entries] == [LOST]
    assert limits_view(registry.readings())["store_up"] is False
    assert not health.may_ask()


def test_a_second_loss_is_told_again(
    health: StoreHealth, clock: Clock, log_entries: list[MutableMapping[str, Any]]
) -> None:
    for _ in range(2):
        health.note_error(TimeoutError())
        clock.seconds += RETRY_SECONDS
        assert health.may_ask()
        health.note_answer()

    assert [entry["event"] for entry in log_entries] == [LOST, BACK] * 2


def test_limits_in_memory_have_no_store_that_could_be_lost(registry: MetricsRegistry) -> None:
    StoreHealth(LimitStoreMetrics(registry.registry), "memory://")

    text, _ = registry.exposition("text/plain")

    assert limits_view(registry.readings()) == {
        "store": "memory",
        "store_up": True,
        "store_errors": 0,
    }
    assert "rate_limit_store_up{" not in text.decode(), "an alert on it must not find anything"


def test_a_store_that_was_never_there_is_told_by_the_first_request(start_app: StartApp) -> None:
    client = start_app(rate_limit_storage_uri="redis://127.0.0.1:9")

    assert client.get("/v1/whoami", headers=AUTHORIZED).status_code == 200

    text = client.get("/metrics", headers={"accept": "text/plain"}).text
    assert 'rate_limit_store_up{store="redis"} 0.0' in text
    assert "rate_limit_store_errors_total 1.0" in text
