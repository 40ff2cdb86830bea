"""How late the event loop is shows in the metrics, whatever made it late."""

import asyncio
import time

import pytest

from service_kit.loop_lag import LoopLag, RecentMax, loop_view
from service_kit.metrics import MetricsRegistry

BLOCKED_SECONDS = 0.06


async def test_what_blocks_the_loop_is_seen_for_as_long_as_it_did() -> None:
    registry = MetricsRegistry()
    lag = LoopLag(registry.registry, every_seconds=0.001)

    def longest() -> float:
        return registry.readings().total("event_loop_lag_max_seconds")

    async with lag.watched():
        # The watch has begun to sleep once others had their turn.
        await asyncio.sleep(0)
        began = time.monotonic()
        time.sleep(BLOCKED_SECONDS)  # noqa: ASYNC251 - what must never be done is measured
        while longest() < BLOCKED_SECONDS / 2:  # noqa: ASYNC110 - a metric tells nobody that it changed
            await asyncio.sleep(0)
        passed = time.monotonic() - began

    assert BLOCKED_SECONDS / 2 < longest() <= passed


async def test_nothing_runs_on_once_it_is_not_watched() -> None:
    registry = MetricsRegistry()

    async with LoopLag(registry.registry).watched():
        watching = [task for task in asyncio.all_tasks() if task.get_name() == "loop-lag"]

    assert [task.cancelled() for task in watching] == [True]


@pytest.mark.parametrize(
    ("values", "longest"),
    [
        ([(0, 3), (1, 5), (2, 4)], 5),
        ([(0, 5), (29, 4), (31, 3)], 5),
        ([(0, 5), (31, 4), (59, 3)], 5),
        ([(0, 5), (31, 4), (61, 3)], 4),
        ([(0, 5), (90, 1)], 1),
        ([(59, 5), (61, 1), (89, 1)], 5),
        ([(59, 5), (61, 1), (91, 1)], 1),
    ],
)
def test_the_longest_is_of_the_last_minute_and_of_half_of_it_at_least(
    values: list[tuple[float, float]], longest: float
) -> None:
    recent = RecentMax(60)

    assert [recent.add(value, at) for at, value in values][-1] == longest


def test_the_json_view_has_the_mean_and_the_longest() -> None:
    registry = MetricsRegistry()
    lag = LoopLag(registry.registry)

    before = loop_view(registry.readings())
    for seconds in (0.001, 0.003):
        lag.note(seconds, 0)

    assert before == {"avg_lag_seconds": 0.0, "max_lag_last_minute_seconds": 0.0}
    assert loop_view(registry.readings()) == {
        "avg_lag_seconds": 0.002,
        "max_lag_last_minute_seconds": 0.003,
    }
