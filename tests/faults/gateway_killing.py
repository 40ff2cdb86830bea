"""A system whose proxy or ledger is killed, and a table of what became of its completions."""

import asyncio
import json
import os
import random
import signal
import sqlite3
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from credits.client import SERVICE_KEY, app_of
from credits.drivers import Clock
from credits_service.ledger.batch import Command
from credits_service.ledger.operations import SettleDue
from faults.gateway_kill_points import LEDGER_CALLS, POINTS, LedgerCall, Outcome
from faults.gateway_round import Asked, Clients
from faults.kill_round import Ledger, opened
from support.fork_server import ForkServer
from support.loop_server import loop_server
from support.proxy_app import proxy_app

_SIGKILL = -9
_HOUR_MICROS = 3_600_000_000
_WAIT_SECONDS = 30
_CALLS_PASSED = 2
_TURNS = 20
_BATCH = "/api/v1/batch"


class Ends:
    """Counts what became of the completions of each point's rounds.

    Those that were answered are all charged exactly; the rest are those that nobody was given to
    their end.
    """

    def __init__(self) -> None:
        self._kills: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._outcomes: dict[str, Counter[Outcome]] = defaultdict(Counter)

    def note(self, point: str, ends: list[tuple[Asked, Outcome]]) -> None:
        self._kills[point] += 1
        for one, end in ends:
            if one.seen.whole:
                self._answered[point] += 1
            elif not one.call.is_refused and one.seen.error is None:
                self._outcomes[point][end] += 1

    def table(self) -> str:
        """Return how often each point was killed at, and what became of its completions."""
        names = ("kills", "answered", "exact", "progress", "unbilled")
        rows = {point: self._figures(point) for point in self._kills}
        rows["all"] = [sum(figures) for figures in zip(*rows.values(), strict=True)]
        lines = [f"{'point':<44}" + "".join(f"{name:>10}" for name in names)]
        lines += [
            f"{point:<44}" + "".join(f"{figure:>10}" for figure in figures)
            for point, figures in rows.items()
        ]
        return "\n".join(lines)

    def _figures(self, point: str) -> list[int]:
        outcomes: tuple[Outcome, ...] = ("exact", "progress", "unbilled")
        counted = [self._outcomes[point][outcome] for outcome in outcomes]
        return [self._kills[point], self._answered[point], *counted]


class _Killer:
    """A ledger's app that kills a caller in the middle of a call.

    Attributes:
        victim: the request that was served when it did.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._aim: tuple[LedgerCall, int] | None = None
        self._left = 0
        self._running = 0
        self._idle = asyncio.Event()
        self.victim: str | None = None

    def aim(self, call: LedgerCall, pid: int, passage: int) -> None:
        """Kill a process when such a call is made for the n-th time."""
        self._aim, self._left, self.victim = (call, pid), passage, None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._running += 1
        try:
            await self._serve(scope, receive, send)
        finally:
            self._running -= 1
            if self._running == 0:
                self._idle.set()

    async def wait_until_idle(self) -> None:
        """Return once all is done that a dead caller has asked for."""
        # The loop first has to find what lies in the sockets.
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        while self._running:
            self._idle.clear()
            await self._idle.wait()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._aim is None:
            await self._app(scope, receive, send)
            return
        call, pid = self._aim
        if scope["path"] == _BATCH:
            receive, body = await _read(receive)
            self._pass_batch(call, json.loads(body)["operations"])
        elif scope["method"] == call.method and scope["path"].startswith(call.path):
            self._pass(dict(scope["headers"]).get(b"x-request-id", b"").decode())
        if self.victim is None:
            await self._app(scope, receive, send)
            return
        self._aim = None

        async def kill_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                os.kill(pid, signal.SIGKILL)
            await send(message)

        if not call.answered:
            os.kill(pid, signal.SIGKILL)
        await self._app(scope, receive, kill_and_send if call.answered else send)

    def _pass_batch(self, call: LedgerCall, operations: list[dict[str, Any]]) -> None:
        for operation in operations:
            if operation["op"] == call.op:
                self._pass(operation["request_id"])

    def _pass(self, request_id: str) -> None:
        self._left -= 1
        if self._left == 0:
            self.victim = request_id


async def _read(receive: Receive) -> tuple[Receive, bytes]:
    """Read a request's body; return it, and what receives it once more."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    body = b"".join(message.get("body", b"") for message in messages)

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    return again, body


class Killing:
    """A system whose proxy or ledger is killed, again and again, at one point."""

    def __init__(
        self, forks: ForkServer, simulator: str, ledger_url: str, folder: Path, rng: random.Random
    ) -> None:
        self._forks = forks
        self._simulator_url = simulator
        self._ledger_url = ledger_url
        self._folder = folder
        self._rng = rng
        self.clock = Clock()
        self._app = app_of(ledger_url, self.clock, sweep_interval_seconds=3600)
        self._killer = _Killer(self._app)

    @asynccontextmanager
    async def ledger(self, at: str = "http://127.0.0.1:0") -> AsyncIterator[tuple[Ledger, str]]:
        """Run a ledger that lives; yield where it can be reached."""
        async with (
            opened(self._app) as ledger,
            loop_server(self._killer, port=_port(at), lifespan="off") as url,
        ):
            yield ledger, url

    @asynccontextmanager
    async def proxy(self, ledger_url: str) -> AsyncIterator[str]:
        """Run a proxy that lives."""
        async with loop_server(self._proxy_app(ledger_url)) as url:
            yield url

    @asynccontextmanager
    async def delivery(self, ledger_url: str) -> AsyncIterator[None]:
        """Run the next proxy, which nobody asks: what the one before it left is its own."""
        app = self._proxy_app(ledger_url)
        async with app.router.lifespan_context(app):
            yield

    def _proxy_app(self, ledger_url: str) -> FastAPI:
        return proxy_app(self._urls(ledger_url), SERVICE_KEY, self._folder)

    def _urls(self, ledger_url: str) -> dict[str, str]:
        return {"simulator": self._simulator_url, "ledger": ledger_url}

    @asynccontextmanager
    async def clients(self, proxy_url: str) -> AsyncIterator[Clients]:
        async with (
            httpx.AsyncClient(base_url=proxy_url, timeout=60, trust_env=False) as proxy,
            httpx.AsyncClient(base_url=self._simulator_url, timeout=60, trust_env=False) as control,
        ):
            yield Clients(proxy, control)

    async def _start(self, point: str, **job: Any) -> dict[str, Any]:
        passages = POINTS[point].passages if point in POINTS else 1
        self._forks.start(
            {
                "point": point if point in POINTS else None,
                "passage": self._rng.randint(1, passages),
                "arrives": self._rng.random() < 0.5,
                **job,
            }
        )
        return await asyncio.to_thread(self._forks.read)

    async def start_ledger(self, point: str, at: str) -> dict[str, Any]:
        """Start the ledger that will die, where the proxy knows it to be."""
        return await self._start(
            point,
            ledger_url=self._ledger_url,
            now_micros=self.clock.micros,
            port=_port(at),
        )

    async def start_proxy(self, point: str, ledger_url: str) -> dict[str, Any]:
        """Start the proxy that will die; return its URL and process id."""
        listening = await self._start(point, urls=self._urls(ledger_url), folder=str(self._folder))
        if point in LEDGER_CALLS:
            call = LEDGER_CALLS[point]
            self._killer.aim(call, listening["pid"], self._rng.randint(1, _CALLS_PASSED))
        return listening

    async def killed(self, pid: int, playing: asyncio.Task[None]) -> str:
        """Wait for the kill; return which request was served at the point, if one was."""
        dying = asyncio.create_task(asyncio.to_thread(self._read_end))
        await asyncio.wait({playing, dying}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({dying}, timeout=_WAIT_SECONDS)
        if not dying.done():
            os.kill(pid, signal.SIGTERM)
        victim = await dying
        await self._killer.wait_until_idle()
        return victim

    def _read_end(self) -> str:
        message = self._forks.read()
        victim = str(message.get("request_id") or self._killer.victim or "")
        if "reached" in message:
            message = self._forks.read()
        assert message == {"ended": _SIGKILL}, "the point was not reached"
        return victim

    async def wait_for_the_outbox(self) -> None:
        """Return once nothing waits to be delivered; what was refused would wait for ever."""
        path = self._folder / "outbox.sqlite3"
        async with asyncio.timeout(_WAIT_SECONDS):
            while await asyncio.to_thread(_kept, path):  # noqa: ASYNC110 - the file tells nobody
                await asyncio.sleep(0.01)

    async def expire(self, ledger: Ledger, account: str) -> None:
        """Let the time of all holds end, and the sweeper come."""
        self.clock.micros += _HOUR_MICROS
        await ledger.services.writer.submit(Command(SettleDue(account), "sweeper", ""))


def _port(url: str) -> int:
    return httpx.URL(url).port or 0


def _kept(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT count(*) FROM settlements").fetchone()[0])
