"""The proxy's app in the test's own loop, and clients that read, wait and leave when told to."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
from pydantic import SecretStr
from starlette.types import ASGIApp, Message, Scope

from ai_proxy_service.main import create_app
from ai_proxy_service.settings import ProxySettings
from support.fakes import FakeBilling, FakeGemini

KEY = "sk-client-7b1e9d5c3a2f4860"
_WAIT_SECONDS_MAX = 30


class Exchange:
    """One request and what has come back so far.

    Attributes:
        status: None until it has come.
        body: what has come of it.
        done: the app is through with the request.
    """

    def __init__(
        self,
        app: ASGIApp,
        state: dict[str, Any],
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        method: str = "POST",
    ) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self._request: list[Message] = [{"type": "http.request", "body": body}]
        self._left = asyncio.Event()
        self._changed = asyncio.Condition()
        self._scope = {**_scope(path, state, headers), "method": method}
        self._task = asyncio.create_task(self._run(app))

    async def _run(self, app: ASGIApp) -> None:
        await app(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if self._request:
            return self._request.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        async with self._changed:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                self.body += message.get("body", b"")
            self._changed.notify_all()

    async def until(self, expected: bytes, times: int = 1) -> Self:
        """Wait until something has come so many times."""
        async with asyncio.timeout(_WAIT_SECONDS_MAX), self._changed:
            await self._changed.wait_for(lambda: self.body.count(expected) >= times)
        return self

    async def end(self) -> Self:
        """Wait until the app is through."""
        async with asyncio.timeout(_WAIT_SECONDS_MAX):
            await self._task
        return self

    async def leave(self) -> Self:
        """Close the connection, and wait until the app is through."""
        self._left.set()
        return await self.end()

    def json(self) -> Any:
        """Return the body of a whole answer."""
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """Return the events so far, without comments; the last one is `[DONE]` as it stands."""
        blocks = [block for block in self.body.decode().split("\n\n") if block]
        texts = [block.removeprefix("data: ") for block in blocks if not block.startswith(":")]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]


def _scope(path: str, state: dict[str, Any], headers: Mapping[str, str]) -> Scope:
    given = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **headers}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8002),
        "state": dict(state),
    }


class App:
    """A running app over fakes."""

    def __init__(self, app: ASGIApp, state: dict[str, Any]) -> None:
        self._app = app
        self._state = state

    def post(self, path: str, *, headers: Mapping[str, str] | None = None, **body: Any) -> Exchange:
        """Begin a request; names of headers are in lower case."""
        raw = msgspec.json.encode(body)
        return Exchange(self._app, self._state, path, raw, headers or {})

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> Exchange:
        """Begin a request without a body; names of headers are in lower case."""
        return Exchange(self._app, self._state, path, b"", headers or {}, method="GET")


@asynccontextmanager
async def running_app(
    folder: Path, gemini: FakeGemini, billing: FakeBilling, **settings: Any
) -> AsyncIterator[App]:
    """Run the proxy over a fake Gemini and a fake ledger; at the end everything is settled."""
    app = create_app(
        ProxySettings(
            _env_file=None,
            api_keys=SecretStr(f"tester:{KEY}"),
            gemini_api_key=SecretStr("AIza-unused"),
            call_memory_uri=SecretStr("memory://"),
            data_dir=folder,
            rate_limit_enabled=False,
            **settings,
        ),
        gemini=gemini,
        billing=billing,
    )
    async with app.router.lifespan_context(app) as state:
        yield App(app, dict(state or {}))
