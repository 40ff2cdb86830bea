"""The ledger is away in the middle of load: what runs is served, and everything is charged once.

`OUTAGE_SECONDS=30` keeps it away for so long, under the proxy's own time limits; without it these
are short, and it comes back as soon as every client has noticed.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from openai.types import CompletionUsage

from ai_proxy_service.services import billing_service, credits_api
from credits.client import SERVICE_KEY, CreditsClient, credits_process
from support.loop_server import loop_server
from support.processes import ServiceProcess
from support.proxy_app import proxy_app, wait_until_nothing_runs
from support.slow_proxy import SlowProxy, slow_proxy
from support.stack import CLIENT_KEY, MODEL, price_usd, say

CREDIT_USD = "100"
CLIENTS = 6
RUNNING = 4
_WAIT_SECONDS = 120
OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "0"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    if not OUTAGE_SECONDS:
        monkeypatch.setattr(credits_api, "CALL_SECONDS_MAX", 0.5)
        monkeypatch.setattr(billing_service, "WITHDRAW_PAUSES_SECONDS", (0.2,) * 100)


class Ledger(Protocol):
    """A ledger that can be away.

    Attributes:
        url: where the proxy finds it.
    """

    url: str

    def go(self) -> None:
        """Be away from now on."""

    def come_back(self) -> None:
        """Be there again."""


class KilledLedger:
    """One that is killed, and started again in the same place."""

    def __init__(self, ledger_url: str, exits: ExitStack) -> None:
        self._ledger_url = ledger_url
        self._exits = exits
        self._process = exits.enter_context(credits_process(ledger_url))
        self.url = self._process.url

    def go(self) -> None:
        self._process.kill()

    def come_back(self) -> None:
        port = str(httpx.URL(self.url).port)
        self._exits.enter_context(credits_process(self._ledger_url, PORT=port))


class DistantLedger:
    """One whose every word takes as long as the proxy waits for an answer."""

    def __init__(self, relay: SlowProxy) -> None:
        self._relay = relay
        self.url = f"http://127.0.0.1:{relay.port}"

    def go(self) -> None:
        self._relay.delay_seconds = credits_api.CALL_SECONDS_MAX

    def come_back(self) -> None:
        self._relay.delay_seconds = 0


@pytest.fixture(params=["killed", "slow"])
def ledger(request: pytest.FixtureRequest, ledger_url: str) -> Iterator[Ledger]:
    """A ledger that will be killed or slow."""
    with ExitStack() as exits:
        if request.param == "killed":
            yield KilledLedger(ledger_url, exits)
        else:
            process = exits.enter_context(credits_process(ledger_url))
            relay = exits.enter_context(slow_proxy(httpx.URL(process.url).port or 0))
            yield DistantLedger(relay)


class Load:
    """Clients that ask again and again, and what they were given.

    Attributes:
        answers: the price of each answer that was given to its end, by completion.
    """

    def __init__(self, proxy: httpx.AsyncClient) -> None:
        self._proxy = proxy
        self._changed = asyncio.Condition()
        self._stopped = False
        self._answered = [0] * CLIENTS
        self._refused = [0] * CLIENTS
        self.answers: dict[str, Decimal] = {}

    async def keep_asking(self, client: int) -> None:
        """Complete again and again, as a stream every other time."""
        number = client
        while not self._stopped:
            number += 1
            is_served = await self.complete(f"answer {number}", streamed=bool(number % 2))
            async with self._changed:
                (self._answered if is_served else self._refused)[client] += 1
                self._changed.notify_all()

    async def complete(self, text: str, *, streamed: bool) -> bool:
        """Complete once; return whether there was an answer: otherwise the refusal is in order."""
        body: dict[str, Any] = {"model": MODEL, "messages": say(text), "user": "ann"}
        if streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        answer = await self._proxy.post("/v1/chat/completions", json=body)
        if answer.is_success:
            last = _last_event(answer.text) if streamed else answer.json()
            assert "error" not in last
            usage = CompletionUsage.model_validate(last["usage"])
            self.answers[last["id"]] = price_usd(usage)
            return True
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) > 0
        error = answer.json()["error"]
        assert error["code"] == "billing_unavailable"
        assert {"message", "type", "param", "code"} <= set(error)
        return False

    async def wait_for(self, *, answers: int = 0, refusals: int = 0) -> None:
        """Return once every client has had so many more."""
        wanted = ((self._answered, answers), (self._refused, refusals))
        goals = [(counts, [count + more for count in counts]) for counts, more in wanted]

        def reached() -> bool:
            return all(
                count >= goal
                for counts, wanted in goals
                for count, goal in zip(counts, wanted, strict=True)
            )

        async with asyncio.timeout(_WAIT_SECONDS), self._changed:
            await self._changed.wait_for(reached)

    def __str__(self) -> str:
        refused = sum(self._refused)
        return f"{len(self.answers)} answers, {sum(self.answers.values())} USD, {refused} refusals"

    def stop(self) -> None:
        """Let the clients end."""
        self._stopped = True


def _last_event(stream: str) -> Any:
    *_, last, done = [line for line in stream.split("\n\n") if line.startswith("data: ")]
    assert done == "data: [DONE]"
    return json.loads(last.removeprefix("data: "))


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with ServiceProcess("gemini-simulator", {}) as process:
        yield process.url


@asynccontextmanager
async def running_proxy(urls: dict[str, str], folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Run a proxy, and yield a client of it."""
    async with (
        loop_server(proxy_app(urls, SERVICE_KEY, folder)) as url,
        httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {CLIENT_KEY}"},
            timeout=_WAIT_SECONDS,
            trust_env=False,
        ) as proxy,
    ):
        yield proxy


@pytest.mark.timeout(600)
async def test_what_runs_is_served_what_comes_is_told_to_come_again_and_all_is_charged_once(
    simulator: str, tmp_path: Path, ledger: Ledger
) -> None:
    gate = tmp_path.name
    held_back = f"[[sim tokens=40 thoughts=0 gate={gate}]]"
    with CreditsClient(ledger.url) as operator:
        operator.top_up("ann", CREDIT_USD)
    urls = {"simulator": simulator, "ledger": ledger.url}
    async with (
        running_proxy(urls, tmp_path) as proxy,
        httpx.AsyncClient(base_url=simulator, timeout=_WAIT_SECONDS, trust_env=False) as control,
        asyncio.TaskGroup() as clients,
    ):
        load = Load(proxy)
        running = [
            clients.create_task(load.complete(held_back, streamed=bool(number % 2)))
            for number in range(RUNNING)
        ]
        at_gate = {"waiting": RUNNING, "timeout": 30}
        waited = await control.get(f"/control/gates/{gate}", params=at_gate)
        assert waited.is_success
        asking = [clients.create_task(load.keep_asking(client)) for client in range(CLIENTS)]
        await load.wait_for(answers=2)

        ledger.go()
        outage = clients.create_task(asyncio.sleep(OUTAGE_SECONDS))
        await load.wait_for(refusals=2)
        await control.delete(f"/control/gates/{gate}")
        # The ledger is still away.
        assert await asyncio.gather(*running) == [True] * RUNNING
        assert await waiting(proxy) >= RUNNING
        await outage
        await asyncio.to_thread(ledger.come_back)

        await load.wait_for(answers=2)
        load.stop()
        await asyncio.gather(*asking)
        async with asyncio.timeout(_WAIT_SECONDS):
            while await waiting(proxy):  # noqa: ASYNC110 - metrics tell nobody that they change
                await asyncio.sleep(0.05)
            await wait_until_nothing_runs()
    print(f"{type(ledger).__name__}: {load}")  # noqa: T201 - the long run's result
    with CreditsClient(ledger.url) as operator:
        assert_charged_once(operator, load.answers)


async def waiting(proxy: httpx.AsyncClient) -> int:
    """Return how many settlements wait in the outbox."""
    return int((await proxy.get("/metrics")).json()["billing"]["settlements_waiting"])


def assert_charged_once(operator: CreditsClient, answers: dict[str, Decimal]) -> None:
    """Each answer is charged with its price, and nothing besides; nothing is held."""
    charges = [item for item in operator.transactions("ann") if item["kind"] == "charge"]
    charged = {item["metadata"]["completion_id"]: -Decimal(item["amount"]) for item in charges}
    assert charged == answers
    assert len(charges) == len(charged)
    account = operator.account("ann")
    assert Decimal(account["balance"]) == Decimal(CREDIT_USD) - sum(answers.values())
    assert Decimal(account["held"]) == 0
    operator.assert_sound()
