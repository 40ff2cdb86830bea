"""Streams whose account runs out of credit on the way, and what is told of them afterwards."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal
from typing import Any

import openai
from openai.types.chat import ChatCompletionChunk as Chunk
from openai.types.completion_usage import CompletionUsage

from support.stack import INPUT_USD, MODEL, OUTPUT_USD, Stack, say

NANO_USD = Decimal("1e-9")


@dataclass
class Seen:
    """What a client has read of a stream.

    Attributes:
        chunks: all of them, in their order.
        error: what the client raised at the end; None if it did not.
    """

    chunks: list[Chunk] = field(default_factory=list)
    error: openai.APIError | None = None

    @property
    def usage(self) -> CompletionUsage:
        """The usage, which the last chunk must bear."""
        usage = self.chunks[-1].usage
        assert usage is not None
        return usage

    @property
    def text(self) -> str:
        """The text of all choices."""
        deltas = (choice.delta for chunk in self.chunks for choice in chunk.choices)
        return "".join(delta.content or "" for delta in deltas)

    @property
    def finishes(self) -> dict[int, str]:
        """The finish reason of each choice that is told to have ended, by its index."""
        return {
            choice.index: choice.finish_reason
            for chunk in self.chunks
            for choice in chunk.choices
            if choice.finish_reason is not None
        }


def read(stream: Any, after_each: Callable[[], object] = lambda: None) -> Seen:
    """Read a stream to its end, which may be an error."""
    seen = Seen()
    try:
        for chunk in stream:
            seen.chunks.append(chunk)
            after_each()
    except openai.APIError as error:
        seen.error = error
    return seen


def credit_for(output_tokens: int) -> str:
    """Return what so many output tokens of `MODEL` cost, in USD."""
    return format(output_tokens * OUTPUT_USD, "f")


def open_stream(stack: Stack, account: str, text: str, **options: Any) -> Any:
    """Open a stream that tells its usage, with the official client."""
    stack.forget_upstream()
    return stack.openai().chat.completions.create(
        **{"model": MODEL, **options},
        messages=say(text),
        user=account,
        stream=True,
        stream_options={"include_usage": True},
    )


def spend_elsewhere(stack: Stack, account: str, output_tokens: int) -> None:
    """Use up credit that a running stream could count on when it began."""
    answer = stack.openai().chat.completions.create(
        model=MODEL,
        messages=say(f"[[sim tokens={output_tokens} chunk=100 thoughts=0]]"),
        max_tokens=output_tokens,
        user=account,
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == output_tokens


def upstream_of(stack: Stack, word: str) -> dict[str, Any]:
    """Return the simulator's record of the answer whose prompt has this word, once it has ended."""
    (found,) = (
        request
        for request in stack.wait_for_upstream(ended="true")
        if "enerateContent" in request["path"] and word in str(request["body"]["contents"])
    )
    return found


def cost_usd(charge: dict[str, Any]) -> Decimal:
    """Return what the usage on a charge costs by the list price of `MODEL`."""
    usage: dict[str, int] = charge["usage"]
    inputs = usage["prompt_tokens"] + usage.get("tool_prompt_tokens", 0)
    outputs = usage.get("candidates_tokens", 0) + usage.get("thoughts_tokens", 0)
    return (inputs * INPUT_USD + outputs * OUTPUT_USD).quantize(NANO_USD, ROUND_UP)


def billing_figures(stack: Stack) -> dict[str, Any]:
    """Return what the proxy has counted of money since its start."""
    answer = stack.http(stack.proxy.url, None).get("/metrics")
    figures: dict[str, Any] = answer.json(parse_float=Decimal)["billing"]
    return figures


def assert_used_up(stack: Stack, account: str) -> None:
    """Check that nothing is left or held, and that the ledger is sound."""
    zero = Decimal(0)
    assert stack.balance(account) == {"balance": zero, "held": zero, "available": zero}
    stack.assert_ledger_is_sound()
