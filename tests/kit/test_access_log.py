"""One line for each request, with all that is known of it once its work is done."""

import asyncio

import pytest
from structlog.testing import capture_logs

from service_kit.access_log import AccessLine, note, note_elapsed, noted, wait_for


async def test_what_is_noted_anywhere_in_a_request_is_in_its_line() -> None:
    async def deep_inside() -> None:
        note(model="m", cost_usd="0.1")

    with capture_logs() as lines:
        line = AccessLine()
        await asyncio.create_task(deep_inside())
        note(cost_usd=f"{noted('cost_usd', '0')}+0.2")
        line.end(status=200)

    assert lines == [
        {
            "event": "request",
            "log_level": "info",
            "model": "m",
            "cost_usd": "0.1+0.2",
            "status": 200,
        }
    ]


async def test_the_line_waits_for_what_outlives_the_request() -> None:
    go_on = asyncio.Event()

    async def charge() -> None:
        await go_on.wait()
        note(cost_usd="0.5")

    with capture_logs() as lines:
        line = AccessLine()
        charging = asyncio.create_task(charge())
        wait_for(charging)
        line.end(status=499)
        before = list(lines)
        go_on.set()
        await charging
        # Whoever waits for a task is told of its end in the order in which they came.
        await asyncio.sleep(0)

    assert before == []
    assert [(line["status"], line["cost_usd"]) for line in lines] == [(499, "0.5")]


async def test_a_task_that_ends_first_changes_nothing() -> None:
    async def charge() -> None:
        """Nothing to wait for."""

    with capture_logs() as lines:
        line = AccessLine()
        charging = asyncio.create_task(charge())
        wait_for(charging)
        await charging
        await asyncio.sleep(0)
        assert lines == []
        line.end(status=200)

    assert len(lines) == 1


async def test_a_cancelled_task_releases_the_line() -> None:
    with capture_logs() as lines:
        line = AccessLine()
        draining = asyncio.create_task(asyncio.Event().wait())
        wait_for(draining)
        line.end(status=499)
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        await asyncio.sleep(0)

    assert len(lines) == 1


def test_outside_a_request_nothing_is_noted() -> None:
    note(model="m")
    note_elapsed("first_ms")

    assert noted("model", "none") == "none"


def test_of_a_moment_the_first_time_counts() -> None:
    line = AccessLine()
    note_elapsed("first_ms")
    first = noted("first_ms", None)
    note_elapsed("first_ms")

    line.end()
    assert line.facts["first_ms"] == first > 0
