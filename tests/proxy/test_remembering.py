"""Signatures of one answer in the next request, for clients that send none back."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ai_proxy_service.translation.remembered import SENTINEL
from support.asgi_exchange import App, running_app
from support.chats import FLASH_3, USER, Json, call, calls, chunk, function_call, result
from support.fakes import FakeBilling, FakeGemini, text_chunk

PATH = "/v1/chat/completions"
SERVER = {"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "id": "s"}, "thoughtSignature": "ss"}


@pytest.fixture
def gemini() -> FakeGemini:
    parts = [SERVER, function_call("f", thoughtSignature="sig"), function_call("g")]
    return FakeGemini(scripts=[[chunk(*parts, finish="STOP")]], items=[text_chunk("", output=1)])


@pytest.fixture
async def app(tmp_path: Path, gemini: FakeGemini) -> AsyncIterator[App]:
    async with running_app(tmp_path, gemini, FakeBilling(0, enforced=False)) as app:
        yield app


async def answered_ids(app: App, *, stream: bool) -> list[str]:
    """Return the ids of the calls in an answer."""
    exchange = await app.post(
        PATH, model=FLASH_3, messages=[USER], stream=stream, user="alice"
    ).end()
    if not stream:
        (choice,) = exchange.json()["choices"]
        return [item["id"] for item in choice["message"]["tool_calls"]]
    return [
        item["id"]
        for event in exchange.events()[:-1]
        for choice in event["choices"]
        for item in choice["delta"].get("tool_calls", ())
    ]


async def parts_sent(app: App, gemini: FakeGemini, ids: list[str], user: str) -> list[Json]:
    """Send the calls back as a client that drops what it does not know; return what Gemini gets."""
    history = [USER, calls(*(call(one) for one in ids)), *(result(one) for one in ids)]
    await app.post(PATH, model=FLASH_3, messages=history, user=user).end()
    found: Any = gemini.bodies[-1]["contents"][1]["parts"]
    return list(found)


@pytest.mark.parametrize("stream", [True, False])
async def test_what_a_client_drops_is_put_back(
    app: App, gemini: FakeGemini, *, stream: bool
) -> None:
    ids = await answered_ids(app, stream=stream)

    server, first, second = await parts_sent(app, gemini, ids, "alice")

    assert server == SERVER
    assert first["thoughtSignature"] == "sig"
    assert "thoughtSignature" not in second


async def test_nobody_else_gets_it(app: App, gemini: FakeGemini) -> None:
    ids = await answered_ids(app, stream=False)

    first, _ = await parts_sent(app, gemini, ids, "bob")

    assert first["thoughtSignature"] == SENTINEL
