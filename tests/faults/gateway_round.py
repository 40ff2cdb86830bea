"""What clients ask a proxy for while it or its ledger is killed, and what each must have paid."""

import asyncio
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import httpx

from ai_proxy_service.core.authorisation import WINDOW_TOKENS
from faults.gateway_kill_points import Outcome
from faults.kill_round import Ledger
from support.stack import CLIENT_KEY, GEMINI_KEY, MODEL

INPUT_NANOS = 300
OUTPUT_NANOS = 2_500
_PATH = "/v1/chat/completions"
_TIMEOUT_SECONDS = 60
_numbers = itertools.count()

Manner = Literal["read", "stepped", "left", "whole"]


class Call(NamedTuple):
    """One completion of a round.

    Attributes:
        name: tells it from the others.
        output_tokens: how long the answer is.
        chunk_tokens: in pieces of how many tokens it comes.
        manner: a stream that is read to its end, whose next chunk is made only when the one
            before has been read, or whose client leaves after the first one; or a whole answer.
        order: more for the simulator.
        limit_tokens: the request's own limit.
    """

    name: str
    output_tokens: int
    chunk_tokens: int
    manner: Manner
    order: str = ""
    limit_tokens: int | None = None

    @property
    def is_refused(self) -> bool:
        """Whether Gemini refuses it."""
        return "status=" in self.order


# Short ones of each kind, those that are metered, and those that come to nothing.
CALLS = (
    Call("read-0", 40, 4, "read"),
    Call("read-1", 40, 4, "read"),
    Call("whole-0", 40, 4, "whole", limit_tokens=1_000),
    Call("whole-1", 40, 4, "whole", limit_tokens=1_000),
    Call("collected", 5_000, 500, "whole"),
    Call("long", 9_000, 500, "stepped"),
    Call("left-0", 40, 4, "left"),
    Call("left-1", 40, 4, "left"),
    Call("refused-0", 40, 4, "read", order="status=400"),
    Call("refused-1", 40, 4, "whole", order="status=400"),
)
BEATING = (Call("beating", 40, 4, "stepped"),)


@dataclass
class Seen:
    """What a client saw.

    Attributes:
        status: the answer's; None if there was none.
        chunks: how many pieces of the answer came.
        whole: it was told that this is the whole answer.
        usage: what it was told of tokens.
        error: the error's code, if one came instead or in the stream.
    """

    status: int | None = None
    chunks: int = 0
    whole: bool = False
    usage: dict[str, int] = field(default_factory=dict)
    error: str | None = None


@dataclass
class Asked:
    """A completion, as asked for in one round, and what it costs.

    Attributes:
        request_id: that it was asked for under.
        text: the prompt.
        gate: where the simulator holds it back, if it does.
    """

    call: Call
    request_id: str
    text: str
    gate: str
    prompt_tokens: int = 0
    seen: Seen = field(default_factory=Seen)

    def cost_nanos(self, output_tokens: int) -> int:
        """Return what so much of it costs."""
        return self.prompt_tokens * INPUT_NANOS + output_tokens * OUTPUT_NANOS

    @property
    def full_nanos(self) -> int:
        """What the whole answer costs."""
        return 0 if self.call.is_refused else self.cost_nanos(self.call.output_tokens)

    def body(self, account: str) -> dict[str, Any]:
        """Return the request's body."""
        body: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": self.text}],
            "user": account,
        }
        if self.call.manner != "whole":
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if self.call.limit_tokens is not None:
            body["max_tokens"] = self.call.limit_tokens
        return body


def make_round(calls: Iterable[Call]) -> list[Asked]:
    """Return the completions of a round; each of them is unlike any other round's."""
    number = next(_numbers)
    asked = []
    for call in calls:
        gate = f"{call.name}-{number}" if call.manner in {"stepped", "left"} else ""
        order = f"tokens={call.output_tokens} chunk={call.chunk_tokens} thoughts=0 {call.order}"
        text = f"[[sim {order}{f' gate={gate}' if gate else ''}]]"
        asked.append(Asked(call, f"{call.name}-{number}", text, gate))
    return asked


class Clients:
    """Ask a proxy, and tell the simulator when to go on."""

    def __init__(self, proxy: httpx.AsyncClient, simulator: httpx.AsyncClient) -> None:
        self._proxy = proxy
        self._simulator = simulator
        self._left = 0

    async def ask(self, round_: list[Asked], account: str) -> None:
        """Ask for all at once, and return when each client has its answer or knows of none."""
        await asyncio.gather(*(self._count(one) for one in round_))
        async with asyncio.TaskGroup() as clients:
            for one in round_:
                clients.create_task(self._ask(one, account))

    async def _wait_until_noticed(self) -> None:
        """Return once the proxy knows of all that have left so far."""
        self._left += 1
        left = self._left
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            # Metrics tell nobody that they change.
            while await self._abandoned() < left:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def _abandoned(self) -> int:
        return int((await self._proxy.get("/metrics")).json()["streams"]["abandoned"])

    async def _count(self, one: Asked) -> None:
        """Find out how long the prompt is."""
        answer = await self._simulator.post(
            f"/v1beta/models/{MODEL}:countTokens",
            json={"contents": [{"role": "user", "parts": [{"text": one.text}]}]},
            headers={"x-goog-api-key": GEMINI_KEY},
        )
        one.prompt_tokens = answer.json()["totalTokens"]

    async def _ask(self, one: Asked, account: str) -> None:
        headers = {"authorization": f"Bearer {CLIENT_KEY}", "x-request-id": one.request_id}
        options = {"json": one.body(account), "headers": headers}
        try:
            if one.call.manner == "whole":
                await self._whole(one, options)
            else:
                await self._stream(one, options)
                if one.call.manner == "left" and one.seen.chunks:
                    await self._wait_until_noticed()
        except httpx.TransportError:
            pass  # the proxy is gone
        finally:
            # Not before the proxy has noticed that a client has left, or it may never notice.
            if one.gate:
                await self._simulator.delete(f"/control/gates/{one.gate}")

    async def _whole(self, one: Asked, options: dict[str, Any]) -> None:
        answer = await self._proxy.post(_PATH, **options)
        one.seen.status = answer.status_code
        body = answer.json()
        if answer.is_success:
            one.seen.usage = body["usage"]
            one.seen.whole = True
        else:
            one.seen.error = body["error"]["code"]

    async def _stream(self, one: Asked, options: dict[str, Any]) -> None:
        await self._go_on(one)
        async with self._proxy.stream("POST", _PATH, **options) as answer:
            one.seen.status = answer.status_code
            if not answer.is_success:
                one.seen.error = json.loads(await answer.aread())["error"]["code"]
                return
            async for line in answer.aiter_lines():
                if await self._is_over(one, line.removeprefix("data: ")):
                    return

    async def _is_over(self, one: Asked, data: str) -> bool:
        """Take one line of a stream in; return whether the client has what it wants."""
        seen = one.seen
        if data == "[DONE]":
            seen.whole = seen.error is None
        elif data.startswith("{"):
            event = json.loads(data)
            if "error" in event:
                seen.error = event["error"]["code"]
                return False
            seen.usage = event["usage"] or seen.usage
            if any(choice["delta"].get("content") for choice in event["choices"]):
                seen.chunks += 1
                if one.call.manner == "left":
                    return True
                if one.gate:
                    await self._go_on(one)
        return False

    async def _go_on(self, one: Asked) -> None:
        if one.gate:
            tokens = {"tokens": one.call.chunk_tokens}
            await self._simulator.post(f"/control/gates/{one.gate}", json=tokens)


async def billed_nanos(ledger: Ledger, account: str) -> dict[str, int]:
    """Return what an account was charged for each request, in nano-USD."""
    rows = await ledger.rows(
        "SELECT t.amount_nanos, t.metadata, h.request_ref FROM transactions t "
        "LEFT JOIN holds h ON h.id = t.hold_id "
        "WHERE t.user_id = :account AND t.kind = 'charge'",
        account=account,
    )
    billed: dict[str, int] = {}
    for row in rows:
        request_id = row.request_ref or json.loads(row.metadata)["request_id"]
        billed[request_id] = billed.get(request_id, 0) - row.amount_nanos
    return billed


def outcome(one: Asked, billed: int, *, served: bool) -> Outcome:
    """Check what one completion was charged, and return what that is.

    Args:
        one: what was asked for, and what its client saw.
        billed: its charge in nano-USD.
        served: the proxy has lived: what it began to serve it has served to the end.
    """
    full = one.full_nanos
    assert billed <= full, f"{one} was charged more than it costs: {billed}"
    if one.seen.whole:
        told = one.seen.usage
        assert one.cost_nanos(told["completion_tokens"]) == full, one
        assert told["prompt_tokens"] == one.prompt_tokens, one
        assert billed == full, f"{one} was answered, but charged {billed}"
    elif one.seen.error is not None:
        assert billed == 0, f"{one} failed, but was charged {billed}"
    elif served:
        assert billed == full, f"{one} was left, but charged {billed}"
    produced_tokens = min(one.seen.chunks * one.call.chunk_tokens, one.call.output_tokens)
    since_raise_tokens = WINDOW_TOKENS + one.call.chunk_tokens
    assert one.cost_nanos(produced_tokens - since_raise_tokens) <= billed, (
        f"{one} was charged {billed}, less than the last raise told"
    )
    if billed == full:
        return "exact"
    return "progress" if billed else "unbilled"
