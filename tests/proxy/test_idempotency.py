"""Requests with an `Idempotency-Key`: one answer, one charge, and whose the key is."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ai_proxy_service.api import chat, event_stream, text_completions
from ai_proxy_service.core import answering, recording
from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.translation import answer as translation
from support.answer_stores import new_key
from support.asgi_exchange import running_app
from support.fakes import FakeBilling, FakeGemini, Items, text_chunk
from support.keyed_requests import (
    AVAILABLE_NANOS,
    BROKEN,
    CHARGED_NANOS,
    CHAT,
    GOOD,
    MESSAGE,
    OVERLOADED,
    TEXT,
    World,
    running_world,
)
from support.orders import OUTPUT_NANOS


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(tmp_path) as world:
        yield world


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_repeat_is_the_same_to_the_byte_and_costs_nothing(
    world: World, path: str, *, stream: bool
) -> None:
    first = await world.ask(path, stream=stream).end()
    again = await world.ask(path, stream=stream).end()

    assert first.status == again.status == 200
    assert first.body == again.body != b""
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert first.headers["x-request-id"] != again.headers["x-request-id"]
    assert world.charges == [CHARGED_NANOS]
    assert len(world.gemini.bodies) == 1
    same = {"content-type", "openai-version", "x-credits-charged"} & first.headers.keys()
    assert {name: again.headers[name] for name in same} == {n: first.headers[n] for n in same}
    # It may have changed since.
    assert "x-credits-available" not in again.headers


async def test_without_a_key_each_request_is_answered_anew(world: World) -> None:
    for _ in range(2):
        body: dict[str, Any] = {"model": "gemini-2.5-flash", "messages": [MESSAGE]}
        answer = await world.app.post(CHAT, **body).end()
        assert "idempotency-replayed" not in answer.headers
    assert world.charges == [CHARGED_NANOS] * 2


async def test_who_repeats_a_stream_that_runs_gets_all_of_it(world: World) -> None:
    world.gemini.gate = asyncio.Event()
    first = await world.ask().until(b"hi")
    joined = await world.ask().until(b"hi")
    world.gemini.gate.set()
    await asyncio.gather(first.end(), joined.end())

    assert first.events() == joined.events()
    assert first.events()[-1] == "[DONE]"
    assert joined.headers["idempotency-replayed"] == "true"
    assert world.charges == [CHARGED_NANOS]


async def test_who_repeats_while_the_first_is_opened_waits_for_it(world: World) -> None:
    world.gemini.opening = asyncio.Event()
    first = world.ask(stream=False)
    await world.gemini.asked.wait()
    others = [world.ask(stream=False) for _ in range(5)]
    world.gemini.opening.set()
    answers = [await each.end() for each in (first, *others)]

    assert len({each.body for each in answers}) == 1
    assert world.charges == [CHARGED_NANOS]


@pytest.mark.parametrize("on_disconnect", ["drain", "cancel"])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_with_a_key_goes_on_when_its_client_leaves(
    tmp_path: Path, on_disconnect: str, *, stream: bool
) -> None:
    gemini, billing = FakeGemini(list(GOOD)), FakeBilling(AVAILABLE_NANOS)
    gemini.gate = asyncio.Event()
    gemini.opening = asyncio.Event()
    async with running_app(tmp_path, gemini, billing, on_disconnect=on_disconnect) as app:
        world = World(app, gemini, billing, new_key())
        first = world.ask(stream=stream)
        await gemini.asked.wait()
        if stream:
            gemini.opening.set()
            await (await first.until(b"hi")).leave()
        else:
            first._left.set()
            gemini.opening.set()
        gemini.gate.set()
        again = await world.ask(stream=stream).end()

    assert again.status == 200
    assert b'"finish_reason":"stop"' in again.body
    assert world.charges == [CHARGED_NANOS]
    assert "estimated" not in billing.settlements[0].metadata


async def test_another_body_under_the_same_key_is_refused(world: World) -> None:
    first = await world.ask(stream=False).end()
    refusals = [
        await world.ask(stream=False, max_tokens=9).end(),
        await world.ask(TEXT, stream=False).end(),
    ]

    assert first.status == 200
    for refusal in refusals:
        error = refusal.json()["error"]
        assert refusal.status == 400
        assert (error["code"], error["param"]) == ("idempotency_key_reused", "Idempotency-Key")
        assert error["type"] == "invalid_request_error"
    assert world.charges == [CHARGED_NANOS]


async def test_the_order_of_members_does_not_make_another_request(world: World) -> None:
    message = {"role": "user", "content": "hi"}
    bodies: list[dict[str, Any]] = [
        {"model": "gemini-2.5-flash", "messages": [message]},
        {"messages": [dict(reversed(message.items()))], "model": "gemini-2.5-flash"},
    ]
    paths = [CHAT, CHAT.removeprefix("/v1")]
    headers = {"idempotency-key": world.key}
    answers = [
        await world.app.post(path, headers=headers, **body).end()
        for path, body in zip(paths, bodies, strict=True)
    ]

    assert answers[0].body == answers[1].body
    assert len(world.gemini.bodies) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "ümlaut"])
async def test_what_cannot_be_a_key_is_refused(world: World, key: str) -> None:
    refusal = await world.ask(stream=False, key=key).end()

    assert refusal.status == 400
    assert refusal.json()["error"]["param"] == "Idempotency-Key"
    assert world.gemini.bodies == []


@pytest.mark.parametrize("key", ["x", "~ !" * 85])
async def test_any_printable_text_is_a_key(world: World, key: str) -> None:
    answers = [await world.ask(stream=False, key=key).end() for _ in range(2)]

    assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, "true"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("script", "status"), [([OVERLOADED], 503), ([GeminiError(429, "", "quota")], 429)]
)
async def test_a_failure_that_cost_nothing_is_tried_again(
    world: World, script: Items, status: int, *, stream: bool
) -> None:
    world.gemini.scripts = [script]
    failed = await world.ask(stream=stream).end()
    again = await world.ask(stream=stream).end()

    assert failed.status == status
    assert again.status == 200
    assert "idempotency-replayed" not in again.headers
    assert world.charges == [CHARGED_NANOS]


async def test_a_refusal_for_lack_of_credit_is_not_remembered(world: World) -> None:
    world.billing.available_nanos = 0
    refused = await world.ask().end()
    world.billing.available_nanos = AVAILABLE_NANOS
    again = await world.ask().end()

    assert (refused.status, again.status) == (402, 200)


async def test_a_failure_that_was_charged_is_told_again_and_not_charged_again(
    world: World,
) -> None:
    """Gemini charges for answers that can't be used."""
    world.gemini.scripts = [BROKEN, BROKEN]
    failed = await world.ask().end()
    again = await world.ask().end()

    assert failed.status == again.status == 502
    assert failed.body == again.body
    assert again.headers["idempotency-replayed"] == "true"
    assert len(world.charges) == 2
    assert len(world.gemini.bodies) == 2


async def test_a_stream_that_broke_off_is_told_again(world: World) -> None:
    world.gemini.items = [text_chunk("hi", output=4), OVERLOADED]
    failed = await world.ask().end()
    again = await world.ask().end()

    assert failed.body == again.body
    assert "error" in failed.events()[-2]
    assert world.charges == [10 * 300 + 4 * OUTPUT_NANOS]


async def test_a_stream_that_failed_after_its_status_and_cost_nothing_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "COMMIT_SECONDS", 0.001)
    world.gemini.opening = asyncio.Event()
    world.gemini.scripts = [[GeminiError(400, "INVALID_ARGUMENT", "no")]]
    failed = world.ask()
    async with asyncio.timeout(30):
        await world.gemini.asked.wait()
        while failed.status is None:  # noqa: ASYNC110 - the status comes without a body
            await asyncio.sleep(0.001)
    world.gemini.opening.set()
    await failed.end()
    again = await world.ask().end()

    assert failed.status == 200
    assert "error" in failed.events()[0]
    assert again.events()[-1] == "[DONE]"
    assert "idempotency-replayed" not in again.headers
    assert world.charges == [CHARGED_NANOS]


async def test_who_waits_is_pinged_and_pings_are_no_part_of_the_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (chat, text_completions):
        monkeypatch.setattr(module, "COMMIT_SECONDS", 0.001)
    monkeypatch.setattr(event_stream, "PING_SECONDS", 0.001)
    world.gemini.gate = asyncio.Event()
    first = await (await world.ask().until(b"hi")).until(b": ping", 3)
    monkeypatch.setattr(event_stream, "PING_SECONDS", 30)
    world.gemini.gate.set()
    await first.end()
    again = await world.ask().end()

    assert b": ping" not in again.body
    assert again.events() == first.events()


async def test_an_error_of_ours_in_mid_stream_leaves_the_key_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is read, and charged, in the background: a repeat must not be charged as well."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(translation.AnswerState, "reasons", fail)
    failed = await world.ask().end()

    assert failed.events()[-2]["error"]["code"] == "internal_error"
    assert world.charges == [CHARGED_NANOS]
    again = await world.ask().end()
    assert again.body == failed.body


async def test_a_run_whose_key_was_taken_over_stops_gemini_and_charges_what_it_used(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process had stood still for too long; another one answers the key by now."""
    monkeypatch.setattr(answering, "BEAT_SECONDS", 0.01)
    world.gemini.gate = asyncio.Event()
    first = await world.ask().until(b"hi")
    answers = world.app._state["gateway"].answers
    (taken,) = answers._running.values()
    await answers._store.store.drop(taken.name, taken.token)
    await first.end()
    async with asyncio.timeout(30):
        await world.billing.ended.wait()

    assert first.events()[-2]["error"]["code"] == "idempotency_unavailable"
    assert world.gemini.streams[0].closed
    assert world.charges == [10 * 300 + 4 * OUTPUT_NANOS]
    assert world.billing.settlements[0].metadata["estimated"] is True


async def test_an_answer_that_was_too_large_is_not_charged_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "ANSWER_BYTES_MAX", 10)
    first = await world.ask(stream=False).end()
    again = await world.ask(stream=False).end()

    assert first.status == 200
    assert again.status == 409
    assert again.json()["error"]["code"] == "idempotency_answer_too_large"
    assert again.json()["error"]["type"] == "conflict_error"
    assert again.headers["x-should-retry"] == "false"
    assert world.charges == [CHARGED_NANOS]


async def test_several_prompts_are_answered_once(world: World) -> None:
    prompts = ["one", "two", "three"]
    answers = [await world.ask(TEXT, stream=False, prompt=prompts).end() for _ in range(2)]

    assert answers[0].body == answers[1].body
    assert len(world.gemini.bodies) == 3


async def test_a_restart_forgets_no_answer(tmp_path: Path) -> None:
    gemini, billing, key = FakeGemini(list(GOOD)), FakeBilling(AVAILABLE_NANOS), new_key()
    bodies = []
    for _ in range(2):
        async with running_app(tmp_path, gemini, billing) as app:
            bodies.append((await World(app, gemini, billing, key).ask().end()).body)

    assert bodies[0] == bodies[1]
    assert len(gemini.bodies) == 1


async def test_requests_with_a_key_are_counted(world: World) -> None:
    for _ in range(3):
        await world.ask().end()

    state = world.app._state["gateway"].metrics
    counts = {
        sample.labels["outcome"]: sample.value
        for metric in state.idempotent.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }
    assert counts == {"first": 1, "repeated": 2}
