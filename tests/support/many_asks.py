"""Many requests of all kinds at once, and what each client was told."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import openai

from support.processes import ServiceProcess
from support.stack import CLIENT_KEY, INPUT_USD, MODEL, OUTPUT_USD, TIMEOUT_SECONDS, say

SEED = 20_261_124
CHUNK_TOKENS = 50
# More than the window that is held at first.
LONG_TOKENS = (4_500, 9_000)
SHORT_TOKENS = (20, 400)
# Ten times as fast as Gemini: all at once would be there before a hold could follow it.
LONG_TOKENS_PER_SECOND = 3_000
PROMPT_TOKENS_ABOUT = 30
RETRY_PAUSE_SECONDS = 0.5
RETRIES_MAX = 60


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Attributes:
        label: names it to both services: its request id, and a word of its text.
        tokens: how long an answer the simulator gives.
        limit_tokens: `max_tokens`; None for the model's own.
        breaks_after: answer tokens after which Gemini's connection breaks; None if it does not.
        streamed: whether it is asked for as a stream.
        gate: the simulator's gate that the answer has to pass; empty for none.
    """

    label: str
    tokens: int
    limit_tokens: int | None
    breaks_after: int | None
    streamed: bool
    gate: str = ""

    @property
    def text(self) -> str:
        """The message that orders the answer."""
        cut = f" cut_after={self.breaks_after}" if self.breaks_after else ""
        pace = f" pace={LONG_TOKENS_PER_SECOND}" if self.tokens >= LONG_TOKENS[0] else ""
        gate = f" gate={self.gate}" if self.gate else ""
        order = f"tokens={self.tokens} chunk={CHUNK_TOKENS} thoughts=0{cut}{pace}{gate}"
        return f"[[sim {order}]] {self.label}"


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was told.

    Attributes:
        status: of the answer.
        code: of the error in or instead of it; None without one.
        output_tokens: of its usage; None if that was not told.
        may_help_to_wait: the error says so: credit is held by others, or the ledger was too busy.
    """

    status: int
    code: str | None = None
    output_tokens: int | None = None
    may_help_to_wait: bool = False


def mixed(count: int) -> list[Ask]:
    """Return requests of all kinds: mostly short, some longer than a window, some that break."""
    dice = random.Random(SEED)  # noqa: S311 - no secret
    asks = []
    for number in range(count):
        is_long = dice.random() < 0.05
        tokens = dice.randint(*(LONG_TOKENS if is_long else SHORT_TOKENS))
        limited = dice.random() < 0.8
        breaks = dice.random() < 0.05
        asks.append(
            Ask(
                label=f"ask-{number}-of-many",
                tokens=tokens,
                limit_tokens=tokens + dice.randint(0, 200) if limited else None,
                breaks_after=max(1, tokens // 2) if breaks else None,
                streamed=dice.random() < 0.5,
            )
        )
    return asks


def short(count: int) -> list[Ask]:
    """Return requests for short answers only, without a limit of their own."""
    dice = random.Random(SEED)  # noqa: S311 - no secret
    return [
        Ask(f"ask-{number}-of-many", dice.randint(*SHORT_TOKENS), None, None, number % 2 == 0)
        for number in range(count)
    ]


def price_of(asks: Sequence[Ask]) -> Decimal:
    """Return about what they cost in USD, were all of them served."""
    output = sum(ask.breaks_after or ask.tokens for ask in asks)
    return output * OUTPUT_USD + len(asks) * PROMPT_TOKENS_ABOUT * INPUT_USD


async def told(client: openai.AsyncOpenAI, account: str, ask: Ask) -> Told:
    """Ask, read all of the answer, and ask again where the error says that this may help."""
    for _ in range(RETRIES_MAX):
        answer = await told_once(client, account, ask)
        if not answer.may_help_to_wait:
            return answer
        await asyncio.sleep(RETRY_PAUSE_SECONDS)
    return answer


async def told_once(client: openai.AsyncOpenAI, account: str, ask: Ask) -> Told:
    """Ask once, and read all of the answer."""
    output_tokens = None
    options: dict[str, Any] = {} if ask.limit_tokens is None else {"max_tokens": ask.limit_tokens}
    options |= {
        "model": MODEL,
        "messages": say(ask.text),
        "user": account,
        "extra_headers": {"x-request-id": ask.label},
    }
    try:
        if not ask.streamed:
            whole = await client.chat.completions.create(**options)
            return Told(200, output_tokens=whole.usage.completion_tokens if whole.usage else None)
        stream = await client.chat.completions.create(
            stream=True, stream_options={"include_usage": True}, **options
        )
        async for chunk in stream:
            if chunk.usage is not None:
                output_tokens = chunk.usage.completion_tokens
    except openai.APIError as error:
        status = error.status_code if isinstance(error, openai.APIStatusError) else 200
        waiting = error.code == "billing_unavailable" or "still running" in error.message
        return Told(status, error.code, output_tokens, may_help_to_wait=waiting)
    return Told(200, output_tokens=output_tokens)


async def ask_all(
    proxies: Sequence[ServiceProcess], account: str, asks: Sequence[Ask]
) -> dict[str, Told]:
    """Ask all at once, of each proxy in turn; return what each was told by its label."""
    clients = [
        openai.AsyncOpenAI(
            api_key=CLIENT_KEY,
            base_url=f"{proxy.url}/v1",
            max_retries=0,
            timeout=3 * TIMEOUT_SECONDS,
        )
        for proxy in proxies
    ]
    try:
        answers = await asyncio.gather(
            *(told(clients[number % len(clients)], account, ask) for number, ask in enumerate(asks))
        )
    finally:
        for client in clients:
            await client.close()
    return {ask.label: answer for ask, answer in zip(asks, answers, strict=True)}
