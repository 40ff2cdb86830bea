"""When the status is sent, what can still be said afterwards, and clients that leave before."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ai_proxy_service.api import chat, event_stream, text_completions
from ai_proxy_service.core.gemini import GeminiError
from support.asgi_exchange import App, Exchange, running_app
from support.fakes import FakeBilling, FakeGemini, Items, text_chunk
from support.orders import OUTPUT_NANOS

AVAILABLE_NANOS = 5_000_000_000
CHARGED_NANOS = 10 * 300 + 5 * OUTPUT_NANOS
GOOD: Items = [text_chunk("hi", output=4), text_chunk("", output=5, finish="STOP")]
BROKEN: Items = [text_chunk("", output=2, finish="MALFORMED_FUNCTION_CALL")]
OVERLOADED = GeminiError(503, "UNAVAILABLE", "overloaded")
PATHS = ("/v1/chat/completions", "/v1/completions")


class World:
    """An app that can be built in either way, its fakes, and its requests."""

    def __init__(self, gemini: FakeGemini, billing: FakeBilling) -> None:
        self.gemini = gemini
        self.billing = billing

    def ask(
        self, app: App, path: str = PATHS[0], *, stream: bool = True, **fields: Any
    ) -> Exchange:
        prompt = (
            {"messages": [{"role": "user", "content": "hi"}]}
            if "chat" in path
            else {"prompt": "hi"}
        )
        return app.post(path, model="gemini-2.5-flash", stream=stream, **prompt, **fields)

    @property
    def charges(self) -> list[int]:
        return [item.amount_nanos for item in self.billing.settlements]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(FakeGemini(list(GOOD)), FakeBilling(AVAILABLE_NANOS))
    yield world
    assert not world.billing.holds, "a hold was left"
    assert world.billing.available_nanos == AVAILABLE_NANOS - sum(world.charges)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is sent at once, and pings follow quickly."""
    for module in (chat, text_completions):
        monkeypatch.setattr(module, "COMMIT_SECONDS", 0.001)
    monkeypatch.setattr(event_stream, "PING_SECONDS", 0.001)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("impatient")
async def test_while_gemini_is_silent_the_stream_begins_with_comments(
    world: World, tmp_path: Path, path: str
) -> None:
    world.gemini.opening = asyncio.Event()
    async with running_app(tmp_path, world.gemini, world.billing) as app:
        exchange = world.ask(app, path)

        await exchange.until(b": ping\n\n", times=3)
        assert exchange.status == 200
        assert exchange.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert exchange.events() == []
        world.gemini.opening.set()
        await exchange.end()

    *_, last, done = exchange.events()
    assert (last["choices"][0]["finish_reason"], done) == ("stop", "[DONE]")
    assert world.charges == [CHARGED_NANOS]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([OVERLOADED], ("server_is_overloaded",)),
        ([GeminiError(400, "INVALID_ARGUMENT", "temperature")], ("invalid_value",)),
        (BROKEN, ("malformed_function_call", 2, 2)),
        ([], ("upstream_error",)),
        ([text_chunk("half", output=4)], ("upstream_error", 4)),
        ([text_chunk("half", output=4), OVERLOADED], ("server_is_overloaded", 4)),
        ([text_chunk("x", output=4), *BROKEN], ("malformed_function_call", 2)),
    ],
)
@pytest.mark.usefixtures("impatient")
async def test_a_failure_after_the_status_is_an_event_and_the_end(
    world: World, tmp_path: Path, path: str, items: Items, told: tuple[str, *tuple[int, ...]]
) -> None:
    """What is told: the error's code; and the output tokens of each charge."""
    code, *charged_tokens = told
    world.gemini.items = items
    world.gemini.opening = asyncio.Event()
    async with running_app(tmp_path, world.gemini, world.billing) as app:
        exchange = await world.ask(app, path).until(b": ping\n\n")
        world.gemini.opening.set()
        await exchange.end()

    *before, error, done = exchange.events()
    assert exchange.status == 200
    assert error["error"].keys() == {"message", "type", "param", "code"}
    assert (error["error"]["code"], done) == (code, "[DONE]")
    assert not any(choice["finish_reason"] for event in before for choice in event["choices"])
    assert world.charges == [10 * 300 + tokens * OUTPUT_NANOS for tokens in charged_tokens]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([OVERLOADED], (503, "server_is_overloaded")),
        ([GeminiError(404, "NOT_FOUND", "no")], (400, "model_not_found")),
        ([GeminiError(401, "UNAUTHENTICATED", "no")], (502, "upstream_auth_error")),
        (BROKEN, (502, "malformed_function_call")),
        ([], (502, "upstream_error")),
    ],
)
async def test_a_failure_before_the_status_is_a_status(
    world: World, tmp_path: Path, path: str, items: Items, told: tuple[int, str], *, stream: bool
) -> None:
    world.gemini.items = items
    async with running_app(tmp_path, world.gemini, world.billing) as app:
        exchange = await world.ask(app, path, stream=stream).end()

    assert (exchange.status, exchange.json()["error"]["code"]) == told
    assert exchange.headers["content-type"] == "application/json"
    assert exchange.headers["x-request-id"].startswith("req_")


async def test_credit_that_is_wanting_is_a_status(tmp_path: Path) -> None:
    world = World(FakeGemini(list(GOOD)), FakeBilling(1))
    async with running_app(tmp_path, world.gemini, world.billing) as app:
        exchange = await world.ask(app).end()

    assert (exchange.status, exchange.headers["x-should-retry"]) == (402, "false")


async def test_a_stream_has_its_headers_and_the_form_of_events(
    world: World, tmp_path: Path
) -> None:
    async with running_app(tmp_path, world.gemini, world.billing) as app:
        exchange = await world.ask(app, stream_options={"include_usage": True}, foo=1).end()

    assert exchange.headers["cache-control"] == "no-cache, no-transform"
    assert exchange.headers["x-accel-buffering"] == "no"
    assert exchange.headers["x-proxy-ignored-params"] == "foo"
    assert "content-length" not in exchange.headers
    assert all(line.startswith((b"data: ", b":")) for line in exchange.body.split(b"\n") if line)
    *_, usage, done = exchange.events()
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 5
    assert done == "[DONE]"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_before_the_first_word_pays_for_the_whole_answer_once(
    world: World, tmp_path: Path, path: str, *, stream: bool
) -> None:
    """Google goes on and charges when a client leaves."""
    world.gemini.opening = asyncio.Event()
    async with running_app(tmp_path, world.gemini, world.billing) as app:
        exchange = world.ask(app, path, stream=stream)
        await world.gemini.asked.wait()
        await exchange.leave()

        assert world.charges == []
        world.gemini.opening.set()
        await world.billing.ended.wait()

    assert world.charges == [CHARGED_NANOS]
    assert len(world.gemini.bodies) == 1
    assert all(stream.closed for stream in world.gemini.streams)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [True, False])
async def test_where_leaving_cancels_nothing_more_is_waited_for(
    world: World, tmp_path: Path, path: str, *, stream: bool
) -> None:
    world.gemini.opening = asyncio.Event()  # never opened
    settings = {"on_disconnect": "cancel"}
    async with running_app(tmp_path, world.gemini, world.billing, **settings) as app:
        exchange = world.ask(app, path, stream=stream)
        await world.gemini.asked.wait()
        await exchange.leave()
        await world.billing.ended.wait()

    assert world.charges == []
    assert len(world.billing.released) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_where_leaving_cancels_what_was_reported_is_charged(
    world: World, tmp_path: Path, *, stream: bool
) -> None:
    world.gemini.gate = asyncio.Event()  # never opened
    settings = {"on_disconnect": "cancel"}
    async with running_app(tmp_path, world.gemini, world.billing, **settings) as app:
        exchange = world.ask(app, stream=stream)
        await world.gemini.asked.wait()
        if stream:
            await exchange.until(b'"hi"')
        else:
            await world.gemini.streams[0].waiting.wait()
        await exchange.leave()
        await world.billing.ended.wait()

    assert world.charges == [10 * 300 + 4 * OUTPUT_NANOS]
    assert world.billing.settlements[0].metadata["estimated"] is True
    assert world.gemini.streams[0].closed


@pytest.mark.usefixtures("impatient")
async def test_a_client_that_leaves_a_silent_stream_pays_for_the_answer(
    world: World, tmp_path: Path
) -> None:
    world.gemini.opening = asyncio.Event()
    async with running_app(tmp_path, world.gemini, world.billing) as app:
        exchange = await world.ask(app).until(b": ping\n\n")
        await exchange.leave()
        world.gemini.opening.set()
        await world.billing.ended.wait()

    assert world.charges == [CHARGED_NANOS]


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.usefixtures("impatient")
async def test_a_process_that_ends_under_a_silent_stream_leaves_no_hold(
    world: World, tmp_path: Path, *, opened: bool
) -> None:
    world.gemini.opening = asyncio.Event()
    settings = {"drain_seconds": 1}
    async with running_app(tmp_path, world.gemini, world.billing, **settings) as app:
        exchange = await world.ask(app).until(b": ping\n\n")
        if opened:
            world.gemini.opening.set()
    await exchange.end()

    assert world.charges == ([CHARGED_NANOS] if opened else [])
    assert exchange.events()[-1] == "[DONE]"
