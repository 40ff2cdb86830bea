"""Clients that leave, at every moment of an answer: what they owe, and that nothing is left."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.loop_server import loop_server
from support.proxy_app import proxy_app, wait_until_nothing_runs
from support.stack import (
    CLIENT_KEY,
    GEMINI_KEY,
    INPUT_USD,
    MODEL,
    OUTPUT_USD,
    SERVICE_KEY,
    Stack,
    say,
)

TOKENS = 40
_WAIT_SECONDS = 30
_EVERY_CHUNK = tuple(range(TOKENS + 1))
_SOME_CHUNKS = (0, 1, TOKENS // 2, TOKENS)
# A whole answer of the limit is held in full, and asked for as such; without it, it is metered.
_HELD_IN_FULL: dict[str, Any] = {"max_tokens": 1_000}
_METERED: dict[str, Any] = {}


class Bench:
    """A proxy in this loop, and clients of it that leave; the simulator's gates time them.

    Attributes:
        stack: whose ledger and simulator it uses.
    """

    def __init__(
        self, stack: Stack, proxy: httpx.AsyncClient, simulator: httpx.AsyncClient
    ) -> None:
        self.stack = stack
        self._proxy = proxy
        self._simulator = simulator
        self._others = asyncio.all_tasks()

    async def leave_stream(self, account: str, chunks: int) -> None:
        """Read so many chunks of a stream, which are all that have been made, and leave."""
        if chunks == 0:
            await self._leave_waiting(account, stream=True)
            return
        await self._release(account, chunks)
        async with self._proxy.stream("POST", **_request(account, stream=True)) as answer:
            async for line in answer.aiter_lines():
                event = json.loads(line[6:]) if line.startswith("data: {") else {"choices": []}
                chunks -= any(choice["delta"].get("content") for choice in event["choices"])
                if chunks == 0:
                    return
        raise AssertionError("the stream has ended")

    async def leave_whole(self, account: str, tokens: int, **fields: Any) -> None:
        """Leave without an answer when so many tokens of it have been made."""
        await self._release(account, tokens)
        await self._leave_waiting(account, **fields)

    async def _leave_waiting(self, account: str, **fields: Any) -> None:
        asking = asyncio.create_task(self._proxy.request("POST", **_request(account, **fields)))
        at_gate: dict[str, int] = {"waiting": 1, "timeout": _WAIT_SECONDS}
        waited = await self._simulator.get(f"/control/gates/{account}", params=at_gate)
        assert waited.is_success, "nobody came to the gate"
        asking.cancel()
        await asyncio.wait({asking})

    async def _release(self, account: str, tokens: int) -> None:
        await self._simulator.post(f"/control/gates/{account}", json={"tokens": tokens})

    async def go_on(self, accounts: list[str]) -> None:
        """Let the answers be finished once the proxy has noticed who left, and wait for its end."""
        async with asyncio.timeout(_WAIT_SECONDS):
            # This request is one itself. Metrics tell nobody that they change.
            while (await self._metrics())["http"]["in_flight"] > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            for account in accounts:
                await self._simulator.delete(f"/control/gates/{account}")
            await wait_until_nothing_runs()

    async def assert_nothing_is_left(self, accounts: list[str]) -> None:
        """No hold, no request to Gemini, no task, nothing that the proxy counts as open."""
        ended: dict[str, str | int] = {"ended": "true", "timeout": _WAIT_SECONDS}
        upstream = await self._simulator.get("/control/requests", params=ended)
        assert upstream.is_success, "a request to Gemini has not ended"
        figures = upstream.json()
        assert (figures["open_streams"], figures["open_requests"]) == (0, 0)
        metrics = await self._metrics()
        assert metrics["streams"]["open"] == 0
        assert metrics["billing"]["holds_open"] == 0
        assert metrics["billing"]["settlements_waiting"] == 0
        left = asyncio.all_tasks() - self._others
        assert not left, left
        for account in accounts:
            assert self.stack.balance(account)["held"] == 0
        self.stack.assert_ledger_is_sound()

    async def _metrics(self) -> Any:
        return (await self._proxy.get("/metrics")).json()

    async def prompt_tokens(self, account: str) -> int:
        """Return how long an account's prompt is."""
        answer = await self._simulator.post(
            f"/v1beta/models/{MODEL}:countTokens",
            json={"contents": [{"role": "user", "parts": [{"text": _prompt(account)}]}]},
            headers={"x-goog-api-key": GEMINI_KEY},
        )
        return int(answer.json()["totalTokens"])

    async def assert_charged(
        self, account: str, output_tokens: int, *, estimated: bool | None
    ) -> None:
        """The account has one charge, of so much output; `estimated` may be either way."""
        (charge,) = self.stack.transactions(account)
        cost = await self.prompt_tokens(account) * INPUT_USD + output_tokens * OUTPUT_USD
        assert -Decimal(charge["amount"]) == cost
        if estimated is not None:
            assert charge["metadata"].get("estimated", False) is estimated


def _prompt(account: str) -> str:
    return f"[[sim tokens={TOKENS} thoughts=0 gate={account}]]"


def _request(account: str, **fields: Any) -> dict[str, Any]:
    return {
        "url": "/v1/chat/completions",
        "json": {"model": MODEL, "messages": say(_prompt(account)), "user": account, **fields},
    }


@asynccontextmanager
async def running(stack: Stack, folder: Path, **settings: Any) -> AsyncIterator[Bench]:
    """Run a proxy."""
    stack.forget_upstream()
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with (
        loop_server(proxy_app(urls, SERVICE_KEY, folder, **settings)) as url,
        httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {CLIENT_KEY}"},
            timeout=_WAIT_SECONDS,
            limits=limits,
            trust_env=False,
        ) as proxy,
        httpx.AsyncClient(
            base_url=stack.simulator.url, timeout=_WAIT_SECONDS, limits=limits, trust_env=False
        ) as simulator,
    ):
        yield Bench(stack, proxy, simulator)


async def _leave_streams(bench: Bench, after: tuple[int, ...]) -> dict[str, int]:
    """Leave a stream after each of these numbers of chunks; return the number by account."""
    leaving = {bench.stack.account("1"): chunks for chunks in after}
    await asyncio.gather(*(bench.leave_stream(*leaver) for leaver in leaving.items()))
    await bench.go_on(list(leaving))
    return leaving


@pytest.mark.parametrize(("client", "after"), [("rest", _EVERY_CHUNK), ("sdk", _SOME_CHUNKS)])
async def test_who_leaves_a_stream_pays_for_all_of_it_where_it_is_read_on(
    stack: Stack, tmp_path: Path, client: str, after: tuple[int, ...]
) -> None:
    async with running(stack, tmp_path, gemini_client=client, on_disconnect="drain") as bench:
        leaving = await _leave_streams(bench, after)

        for account in leaving:
            await bench.assert_charged(account, TOKENS, estimated=False)
        await bench.assert_nothing_is_left(list(leaving))


@pytest.mark.parametrize(("client", "after"), [("rest", _EVERY_CHUNK), ("sdk", _SOME_CHUNKS)])
async def test_who_leaves_a_stream_pays_for_what_was_reported_where_it_is_stopped(
    stack: Stack, tmp_path: Path, client: str, after: tuple[int, ...]
) -> None:
    async with running(stack, tmp_path, gemini_client=client, on_disconnect="cancel") as bench:
        leaving = await _leave_streams(bench, after)

        for account, chunks in leaving.items():
            if chunks == 0:
                assert bench.stack.transactions(account) == []
            else:
                # After the last chunk the end is on its way, and may come first.
                estimated = None if chunks == TOKENS else True
                await bench.assert_charged(account, chunks, estimated=estimated)
        await bench.assert_nothing_is_left(list(leaving))


@pytest.mark.parametrize("fields", [_HELD_IN_FULL, _METERED])
@pytest.mark.parametrize("client", ["rest", "sdk"])
async def test_who_leaves_a_whole_answer_early_midway_or_late_pays_for_all_of_it(
    stack: Stack, tmp_path: Path, client: str, fields: dict[str, Any]
) -> None:
    async with running(stack, tmp_path, gemini_client=client, on_disconnect="drain") as bench:
        leaving = {bench.stack.account("1"): tokens for tokens in (0, TOKENS // 2, TOKENS - 1)}
        await asyncio.gather(
            *(bench.leave_whole(account, tokens, **fields) for account, tokens in leaving.items())
        )
        await bench.go_on(list(leaving))

        for account in leaving:
            await bench.assert_charged(account, TOKENS, estimated=False)
        await bench.assert_nothing_is_left(list(leaving))
