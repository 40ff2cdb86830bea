"""In-memory stand-ins for Gemini and the credits service, for what is hard to bring about."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from ai_proxy_service.core.errors import BillingUnavailableError, InsufficientCreditError
from ai_proxy_service.core.gemini import (
    Candidate,
    Content,
    GeminiError,
    GenerateContentBody,
    GenerateContentResponse,
    Part,
    UsageMetadata,
)
from ai_proxy_service.core.interfaces import (
    Balance,
    Embeddings,
    EmbedOptions,
    Hold,
    HoldRequest,
)
from ai_proxy_service.core.settlement import Settled, Settlement


def text_chunk(
    text: str,
    *,
    prompt: int = 10,
    tool_prompt: int = 0,
    output: int = 0,
    thoughts: int = 0,
    finish: str | None = None,
) -> GenerateContentResponse:
    """Make a chunk with one part of text and cumulative counts."""
    return GenerateContentResponse(
        candidates=[
            Candidate(content=Content(parts=[Part(text=text)]), finish_reason=finish, index=0)
        ],
        usage_metadata=UsageMetadata(
            prompt_token_count=prompt,
            tool_use_prompt_token_count=tool_prompt,
            candidates_token_count=output,
            thoughts_token_count=thoughts,
            total_token_count=prompt + tool_prompt + output + thoughts,
        ),
    )


class FakeStream:
    """A stream that gives its items one by one; an exception among them is raised.

    Attributes:
        gate: holds it after its first chunk until it is set.
        waiting: is set once somebody waits at the gate.
    """

    def __init__(self, items: Iterable[GenerateContentResponse | GeminiError]) -> None:
        self._items = list(items)
        self.gate: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        self.closed = False
        self.received = 0
        self.received_bytes = 0
        self._reader = False

    async def receive(self) -> list[GenerateContentResponse]:
        # As aiohttp's stream does.
        assert not self._reader, "another reader waits already"
        if self.gate is not None and self.received:
            self._reader = True
            self.waiting.set()
            try:
                await self.gate.wait()
            finally:
                self._reader = False
        if self.closed or not self._items:
            return []
        item = self._items.pop(0)
        if isinstance(item, GeminiError):
            raise item
        self.received += 1
        self.received_bytes += len(msgspec.json.encode(item))
        return [item]

    async def aclose(self) -> None:
        self.closed = True


Items = list[GenerateContentResponse | GeminiError]


@dataclass
class FakeGemini:
    """Answers with what it was given, and remembers what it was asked.

    Attributes:
        items: what each answer consists of.
        scripts: what the next answers consist of, one after the other, before `items` do.
        gate: holds each stream after its first chunk until it is set.
        opening: holds each answer before its first word until it is set.
        asked: is set once somebody asks.
    """

    items: Items = field(default_factory=list)
    scripts: list[Items] = field(default_factory=list)
    tokens: int = 10
    bodies: list[GenerateContentBody] = field(default_factory=list)
    streams: list[FakeStream] = field(default_factory=list)
    gate: asyncio.Event | None = None
    opening: asyncio.Event | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    unsupported: frozenset[str] = frozenset()

    async def _answer(self, body: GenerateContentBody) -> Items:
        self.bodies.append(body)
        self.asked.set()
        if self.opening is not None:
            await self.opening.wait()
        return self.scripts.pop(0) if self.scripts else self.items

    async def generate_completion(
        self, model: str, body: GenerateContentBody
    ) -> GenerateContentResponse:
        items = await self._answer(body)
        item = items[-1] if items else GenerateContentResponse()
        if isinstance(item, GeminiError):
            raise item
        return item

    async def generate_completion_stream(self, model: str, body: GenerateContentBody) -> FakeStream:
        stream = FakeStream(await self._answer(body))
        stream.gate = self.gate
        self.streams.append(stream)
        return stream

    async def count_tokens(self, model: str, body: GenerateContentBody) -> int:
        return self.tokens

    async def embed(self, model: str, texts: Sequence[str], options: EmbedOptions) -> Embeddings:
        return Embeddings([[1.0] for _ in texts], None)

    async def list_models(self) -> list[str]:
        return ["gemini-2.5-flash"]

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass
class FakeBilling:
    """One account's credit in memory, with the rules that the relay relies on.

    Attributes:
        ended: is set once a hold has been settled or released.
    """

    available_nanos: int
    enforced: bool = True
    holds: dict[str, int] = field(default_factory=dict)
    settlements: list[Settlement] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    settling: asyncio.Event | None = None
    progress_nanos: list[int] = field(default_factory=list)
    unavailable: bool = False
    refused: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def balance(self, account: str, key_id: str | None = None) -> Balance | None:
        self._check()
        return Balance(self.available_nanos, self.available_nanos) if self.enforced else None

    async def hold(self, request: HoldRequest) -> Hold:
        self._check()
        amount_nanos = request.amount_nanos
        if amount_nanos > self.available_nanos:
            least = request.min_amount_nanos or amount_nanos
            if least > self.available_nanos:
                raise self._refusal(least)
            amount_nanos = self.available_nanos
        self.available_nanos -= amount_nanos
        self.holds[request.key] = amount_nanos
        return Hold(request.key, amount_nanos, self.available_nanos)

    async def withdraw(self, request: HoldRequest) -> None:
        self.withdrawn.append(request.key)
        self.available_nanos += self.holds.pop(request.key, 0)

    async def raise_hold(self, hold: Hold, amount_nanos: int, progress_nanos: int) -> Hold:
        self._check()
        more = max(0, amount_nanos - self.holds[hold.hold_id])
        if more > self.available_nanos:
            raise self._refusal(more)
        self.available_nanos -= more
        self.holds[hold.hold_id] += more
        self.progress_nanos.append(progress_nanos)
        return replace(
            hold, amount_nanos=self.holds[hold.hold_id], available_nanos=self.available_nanos
        )

    async def settle(self, settlement: Settlement) -> Settled:
        if self.settling is not None:
            await self.settling.wait()
        held = self.holds.pop(settlement.hold_id, 0)
        self.available_nanos += held - settlement.amount_nanos
        self.settlements.append(settlement)
        self.ended.set()
        return Settled(settlement.amount_nanos, self.available_nanos)

    async def release(self, hold: Hold) -> None:
        self.available_nanos += self.holds.pop(hold.hold_id, 0)
        self.released.append(hold.hold_id)
        self.ended.set()

    async def aclose(self) -> None:
        """Nothing is open."""

    def _check(self) -> None:
        if self.unavailable:
            raise BillingUnavailableError

    def _refusal(self, required_nanos: int) -> InsufficientCreditError:
        self.refused.set()
        return InsufficientCreditError(
            "not enough",
            available_nanos=self.available_nanos,
            retryable=required_nanos <= self.available_nanos + sum(self.holds.values()),
        )
