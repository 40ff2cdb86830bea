"""An app over fakes, and requests for completions with an `Idempotency-Key`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_proxy_service.core.gemini import GeminiError
from support.answer_stores import new_key
from support.asgi_exchange import App, Exchange, running_app
from support.fakes import FakeBilling, FakeGemini, Items, text_chunk
from support.orders import OUTPUT_NANOS

AVAILABLE_NANOS = 5_000_000_000
CHARGED_NANOS = 10 * 300 + 5 * OUTPUT_NANOS
GOOD: Items = [text_chunk("hi", output=4), text_chunk("!", output=5, finish="STOP")]
BROKEN: Items = [text_chunk("", output=2, finish="MALFORMED_FUNCTION_CALL")]
OVERLOADED = GeminiError(503, "UNAVAILABLE", "overloaded")
MESSAGE = {"role": "user", "content": "hi"}
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


@dataclass
class World:
    """An app over fakes, and requests with a key.

    Attributes:
        key: of all requests that name no other.
    """

    app: App
    gemini: FakeGemini
    billing: FakeBilling
    key: str

    def ask(
        self, path: str = CHAT, *, stream: bool = True, key: str | None = None, **fields: Any
    ) -> Exchange:
        prompt = (
            {"messages": [{"role": "user", "content": "hi"}]}
            if "chat" in path
            else {"prompt": "hi"}
        )
        body = {"model": "gemini-2.5-flash", "stream": stream, **prompt, **fields}
        key = self.key if key is None else key
        return self.app.post(path, headers={"idempotency-key": key}, **body)

    @property
    def charges(self) -> list[int]:
        return [item.amount_nanos for item in self.billing.settlements]


@asynccontextmanager
async def running_world(folder: Path) -> AsyncIterator[World]:
    """Run an app; at the end nothing is held any more."""
    gemini, billing = FakeGemini(list(GOOD)), FakeBilling(AVAILABLE_NANOS)
    async with running_app(folder, gemini, billing) as app:
        yield World(app, gemini, billing, new_key())
    assert not billing.holds, "a hold was left"
