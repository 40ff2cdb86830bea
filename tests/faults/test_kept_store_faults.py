"""The Redis of kept answers and remembered tool calls is stopped, paused or slow.

Requests with an `Idempotency-Key` are refused with 503 as long as it gives no answer: they might
be charged twice. All others are served; signatures of tool calls are missing meanwhile. In every
run it is stopped; with STORE_FAULTS=all paused and slow, too.
"""

import asyncio
import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ai_proxy_service.services.store_connections import connect_redis
from clients.calls import parts_of
from clients.gateway import FLASH_38, SENTINEL, WEATHER, WEATHER_CALL, result, user
from support.postgres_cluster import HOST, wait_until
from support.processes import ServiceProcess
from support.redis_server import FAULTS, FaultyRedis, faulty_redis, redis_server
from support.stack import CLIENT_KEY, MODEL, TIMEOUT_SECONDS, Stack, running_stack, say

Json = dict[str, Any]


@dataclass
class World:
    """A proxy that keeps answers, and remembers tool calls, in Redis."""

    stack: Stack
    store: FaultyRedis
    http: httpx.Client
    account: str

    def body(self, content: str, **more: Any) -> Json:
        return {"model": MODEL, "messages": say(content), "user": self.account, **more}

    def ask(self, body: Json, key: str | None = None) -> httpx.Response:
        """Ask for a completion, under an idempotency key if one is named."""
        return self.http.post("/v1/chat/completions", json=body, headers=keyed(key))

    def called_tool(self) -> Json:
        """Have a tool called, and return what a client sends back that drops the signature."""
        body = {
            "model": FLASH_38,
            "messages": user(f"Oslo {WEATHER_CALL}"),
            "tools": [WEATHER],
            "user": self.account,
        }
        answer = self.ask(body)
        assert answer.status_code == 200, answer.text
        message = answer.json()["choices"][0]["message"]
        for call in message["tool_calls"]:
            call.pop("extra_content")
        answered = result(message["tool_calls"][0]["id"], "3 degrees")
        return {**body, "messages": [*body["messages"], message, answered]}

    def signature_of(self, history: Json) -> str:
        """Send a conversation with a tool call on, and return the signature that reached Gemini."""
        self.stack.forget_upstream()
        assert self.ask(history).status_code == 200
        (request,) = self.stack.wait_for_upstream(count="1", ended="true")
        (call,) = parts_of(request["body"], "functionCall")
        signature: str = call["thoughtSignature"]
        return signature

    def told(self) -> list[str]:
        """Return what the log says of both stores."""
        names = (event.get("event", "") for event in self.proxy.events())
        return [name for name in names if name.startswith(("answer_store_", "call_memory_"))]

    @property
    def proxy(self) -> ServiceProcess:
        return self.stack.proxy


def keyed(key: str | None) -> dict[str, str]:
    return {"idempotency-key": key} if key else {}


def new_key() -> str:
    return f"key-{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("kept-faults")
    with ExitStack() as exits:
        store = exits.enter_context(faulty_redis(folder))
        kept = {"ANSWER_STORE_URI": f"{store.url}/1", "CALL_MEMORY_URI": f"{store.url}/2"}
        ledger_url = f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}"
        stack = exits.enter_context(running_stack(folder, ledger_url, kept))
        http = exits.enter_context(
            httpx.Client(
                base_url=stack.proxy.url,
                headers={"authorization": f"Bearer {CLIENT_KEY}"},
                timeout=TIMEOUT_SECONDS,
            )
        )
        yield World(stack, store, http, stack.account("100"))


@pytest.fixture
def world(running: World) -> Iterator[World]:
    """The proxy with a Redis that answers, at the beginning and again at the end."""
    history = running.called_tool()
    wait_until("it remembers", lambda: running.signature_of(history) != SENTINEL)
    yield running
    running.store.mend()


async def test_a_restart_that_broke_every_connection_of_the_pool_costs_no_request(
    tmp_path: Path,
) -> None:
    with redis_server(tmp_path) as server:
        client = connect_redis(f"redis://{HOST}:{server.port}", timeout_seconds=30)

        async def ask_all() -> list[Any]:
            return await asyncio.gather(*(client.set("name", "value") for _ in range(8)))

        before = await ask_all()
        server.kill()
        server.start()
        after = await ask_all()
        await client.aclose()

    assert before == after == [True] * 8


@contextlib.contextmanager
def streaming(world: World, gate: str, key: str) -> Iterator[Iterator[Json]]:
    """Open a stream under a key that stands at a gate; yields its chunks."""
    body = world.body(f"[[sim tokens=8 thoughts=0 gate={gate}]]", stream=True)
    with world.http.stream("POST", "/v1/chat/completions", json=body, headers=keyed(key)) as answer:
        assert answer.status_code == 200
        lines = (line.removeprefix("data: ") for line in answer.iter_lines() if line)
        yield (json.loads(line) for line in lines if line != "[DONE]")


@pytest.mark.parametrize("fault", FAULTS if os.environ.get("STORE_FAULTS") == "all" else FAULTS[:1])
def test_only_what_needs_a_certain_answer_is_refused_while_the_store_is_away(
    world: World, fault: str
) -> None:
    known_key, gate, stream_key = new_key(), f"{fault}-{uuid.uuid4().hex}", new_key()
    question = world.body("hi")
    first = world.ask(question, known_key)
    history = world.called_tool()
    signature = world.signature_of(history)
    before = len(world.told())
    with streaming(world, gate, stream_key) as chunks:
        world.stack.wait_at_gate(gate)

        world.store.fail(fault)
        refused = world.ask(question, new_key())
        served = [world.ask(question) for _ in range(4)]
        without_signature = world.signature_of(history)
        lost = world.told()[before:]

        world.store.mend()
        wait_until("keys are served", lambda: world.ask(question, new_key()).is_success)
        world.stack.open_gate(gate)
        finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]]
    wait_until("it remembers again", lambda: world.signature_of(history) == signature)

    assert [answer.status_code for answer in served] == [200] * 4
    if fault == "slow":
        # Who has a connection may still be served, in a second or two.
        assert refused.status_code in {200, 503}
    else:
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "idempotency_unavailable"
        assert refused.headers["retry-after"]
        assert sorted(lost) == ["answer_store_unavailable", "call_memory_unavailable"]
    assert without_signature == SENTINEL
    assert finishes[-1] == "stop", "a stream outlives an outage of less than ten seconds"
    repeated = world.ask(question, known_key)
    assert repeated.json() == first.json(), "what was kept is known again"
