"""Answers under a key that may not go on, or whose client has left: what was used is charged."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ai_proxy_service.api import chat, event_stream, serving
from ai_proxy_service.core import answering, recording
from ai_proxy_service.core.key_limits import UnlimitedUse
from ai_proxy_service.translation.request import TranslatedChat
from support.answer_stores import new_key
from support.asgi_exchange import Exchange
from support.keyed_requests import CHARGED_NANOS, World, running_world
from support.orders import OUTPUT_NANOS

WAIT_SECONDS_MAX = 30
BEGUN_NANOS = 10 * 300 + 4 * OUTPUT_NANOS


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(answering, "BEAT_SECONDS", 0.01)
    async with running_world(tmp_path) as world:
        yield world


async def take_key(world: World) -> None:
    """Take the key of the one run, as another process does that has heard nothing of it."""
    answers = world.app._state["gateway"].answers
    (taken,) = answers._running.values()
    await answers._store.store.drop(taken.name, taken.token)


async def until_settled(world: World) -> None:
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        await world.billing.ended.wait()


async def until_status(exchange: Exchange) -> None:
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while exchange.status is None:  # noqa: ASYNC110 - the status comes without a body
            await asyncio.sleep(0.001)


async def test_a_whole_answer_whose_key_was_taken_is_stopped_while_it_is_collected(
    world: World,
) -> None:
    world.gemini.gate = asyncio.Event()
    first = world.ask(stream=False)
    await world.gemini.asked.wait()
    await world.gemini.streams[0].waiting.wait()
    await take_key(world)
    await first.end()
    await until_settled(world)

    assert first.json()["error"]["code"] == "idempotency_unavailable"
    assert world.gemini.streams[0].closed
    assert world.charges == [BEGUN_NANOS]
    assert world.billing.settlements[0].metadata["estimated"] is True


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_whose_key_was_taken_is_stopped_while_it_is_opened(
    world: World, monkeypatch: pytest.MonkeyPatch, *, stream: bool, committed: bool
) -> None:
    monkeypatch.setattr(chat, "COMMIT_SECONDS", 0.001 if committed else 600)
    world.gemini.opening = asyncio.Event()
    first = world.ask(stream=stream)
    await world.gemini.asked.wait()
    if stream and committed:
        await until_status(first)
    await take_key(world)
    await first.end()
    await until_settled(world)

    assert b"idempotency_unavailable" in first.body
    assert len(world.billing.released) == 1
    assert world.charges == []


class Parts(UnlimitedUse):
    """Counts the parts of a request that run."""

    def __init__(self) -> None:
        self.running = 0
        self.none_left = asyncio.Event()

    def join(self) -> None:
        self.running += 1

    def leave(self) -> None:
        self.running -= 1
        if not self.running:
            self.none_left.set()


async def test_an_answer_counts_for_its_key_also_while_its_left_request_is_prepared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise who leaves while files are fetched has more at once than the key may."""
    use, begun, go_on = Parts(), asyncio.Event(), asyncio.Event()

    async def fetch_for_long(*args: Any) -> TranslatedChat:
        begun.set()
        await go_on.wait()
        return await serving.translate(*args)

    monkeypatch.setattr(chat, "translate", fetch_for_long)
    world.app._state["key_use"] = use
    first = world.ask()
    await begun.wait()
    await first.leave()
    for _ in range(10):
        await asyncio.sleep(0)  # whatever was cancelled has ended then
    counted = use.running
    go_on.set()
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        await use.none_left.wait()

    assert counted == 1
    assert world.charges == [CHARGED_NANOS]


async def test_of_answers_whose_clients_have_left_only_so_many_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was used of one more is charged, and its key tells that it is lost."""
    monkeypatch.setattr(answering, "UNREAD_MAX", 2)
    world.gemini.gate = asyncio.Event()
    keys = [new_key() for _ in range(3)]
    clients = [await world.ask(key=key).until(b"hi") for key in keys]
    for client in clients:
        await client.leave()
    await until_settled(world)

    assert [stream.closed for stream in world.gemini.streams] == [False, False, True]
    assert world.charges == [BEGUN_NANOS]
    assert world.billing.settlements[0].metadata["estimated"] is True
    world.gemini.gate.set()
    repeats = [await world.ask(key=key).end() for key in keys]
    assert [repeat.status for repeat in repeats] == [200, 200, 409]
    assert repeats[2].json()["error"]["code"] == "idempotency_answer_lost"
    assert world.charges == [BEGUN_NANOS, CHARGED_NANOS, CHARGED_NANOS]


async def test_who_leaves_while_it_waits_for_an_answer_is_let_go(world: World) -> None:
    world.gemini.gate = asyncio.Event()
    first = world.ask(stream=False)
    await world.gemini.asked.wait()
    others = [world.ask(stream=False) for _ in range(5)]
    for each in (first, *others):
        await each.leave()

    assert {each.status for each in (first, *others)} == {499}
    world.gemini.gate.set()
    again = await world.ask(stream=False).end()
    assert again.headers["idempotency-replayed"] == "true"
    assert world.charges == [CHARGED_NANOS]


async def test_a_stream_that_nobody_takes_keeps_its_key_until_it_is_charged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read on in the background; a repeat must not be charged as well."""
    monkeypatch.setattr(recording, "ANSWER_BYTES_MAX", 1)
    monkeypatch.setattr(event_stream, "SEND_SECONDS_MAX", 0.05)
    world.gemini.opening, world.gemini.gate = asyncio.Event(), asyncio.Event()
    first = world.ask()
    await world.gemini.asked.wait()
    (running,) = world.app._state["gateway"].answers._running.values()
    # Reads nothing, so that no more can be recorded.
    idle = running.reader()
    world.gemini.opening.set()
    await first.end()
    assert not world.charges

    idle.close()
    world.gemini.gate.set()
    await until_settled(world)
    again = await world.ask().end()

    assert again.status == 409
    assert world.charges == [CHARGED_NANOS]
