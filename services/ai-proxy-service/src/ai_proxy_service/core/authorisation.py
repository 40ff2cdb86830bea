"""How much credit to hold before a completion starts, as pure arithmetic.

The prompt's bound needs no call: a tokenizer of Gemini's makes at most one token of each
byte of UTF-8 text (byte fallback), and the encoded request contains all of that text.
"""

from dataclasses import dataclass
from enum import StrEnum

from ai_proxy_service.core.pricing import ModelPrice, nanos_of
from ai_proxy_service.core.usage import STANDARD_TIER

# Gemini counts a few tokens of its own around each message; the JSON around the text,
# which counts as text here, is far longer, but not for an empty request.
PROMPT_ALLOWANCE_TOKENS = 16
# An answer shorter than this is of no use to anybody: better to refuse with 402.
OUTPUT_FLOOR_TOKENS = 64
# How much output is held at a time where the worst case is too much to hold.
WINDOW_TOKENS = 4_096
# The worst case is held at once if it is a small part of what the account has.
SMALL_PART_PERCENT = 5


class HoldPolicy(StrEnum):
    """How much output is held.

    `windowed`: a window that is raised as the answer grows, or the worst case where that is
    a small part of what is available. `strict`: always the worst case.
    """

    WINDOWED = "windowed"
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class Estimate:
    """Costs of a request before it is served, in nano-USD.

    Attributes:
        prompt_tokens: upper bound, or the exact count.
        prompt_nanos: what the prompt, and what is looked up for it, costs at most.
        output_pico: the highest unit price of an output token, in pico-USD.
        max_output_tokens: the most that the model may produce for this request.
        input_pico: the highest unit price of an input token, in pico-USD.
        lookups_pico: what lookups may cost; it is part of `prompt_nanos`.
    """

    prompt_tokens: int
    prompt_nanos: int
    output_pico: int
    max_output_tokens: int
    input_pico: int
    lookups_pico: int

    def total_nanos(self, output_tokens: int) -> int:
        """Return the cost with so many output tokens."""
        return self.prompt_nanos + nanos_of(output_tokens * self.output_pico)

    @property
    def worst_nanos(self) -> int:
        """The cost if the model produces all that it may."""
        return self.total_nanos(self.max_output_tokens)

    @property
    def window_nanos(self) -> int:
        """The cost of the prompt and a first window of output."""
        return self.total_nanos(min(WINDOW_TOKENS, self.max_output_tokens))

    @property
    def floor_nanos(self) -> int:
        """The cost of the shortest useful answer."""
        return self.total_nanos(min(OUTPUT_FLOOR_TOKENS, self.max_output_tokens))

    def output_tokens_for(self, nanos: int) -> int:
        """Return how much output an amount pays for, after the prompt."""
        if self.output_pico == 0:
            return self.max_output_tokens
        left_pico = (nanos - self.prompt_nanos) * 1_000
        return max(0, min(self.max_output_tokens, left_pico // self.output_pico))


def prompt_bound_tokens(encoded_body_bytes: int) -> int:
    """Return an upper bound on the tokens of a request made of text."""
    return encoded_body_bytes + PROMPT_ALLOWANCE_TOKENS


def estimate(
    price: ModelPrice,
    prompt_tokens: int,
    max_output_tokens: int,
    *,
    tier: str = STANDARD_TIER,
    lookups_pico: int = 0,
    audible: bool = False,
) -> Estimate:
    """Work out what a request can cost.

    Args:
        price: the model's price.
        prompt_tokens: upper bound, or the exact count.
        max_output_tokens: the most that the model may produce for this request.
        tier: the service tier that was asked for.
        lookups_pico: what lookups may cost, in pico-USD; see `ModelPrice.lookups_bound_pico`.
        audible: the prompt may have sound, which costs more than text.
    """
    # Gemini refuses a prompt that doesn't fit, and then nothing is charged. What is embedded is
    # several prompts: each must fit, not their sum.
    fits = price.kind == "embedding" or prompt_tokens <= price.context_tokens
    fitting_tokens = prompt_tokens if fits else price.context_tokens
    rates = price.rates_for(fitting_tokens, tier)
    input_pico = rates.worst_input if audible else rates.input
    return Estimate(
        prompt_tokens=fitting_tokens,
        prompt_nanos=nanos_of(fitting_tokens * input_pico + lookups_pico),
        output_pico=rates.worst_output,
        max_output_tokens=max_output_tokens,
        input_pico=input_pico,
        lookups_pico=lookups_pico,
    )


def hold_nanos(policy: HoldPolicy, cost: Estimate, last_available_nanos: int | None) -> int:
    """Return what to hold at the start.

    Args:
        policy: see `HoldPolicy`.
        cost: the request's costs.
        last_available_nanos: what the account was last seen to have; only a hint.
    """
    if policy is HoldPolicy.STRICT:
        return cost.worst_nanos
    small = (last_available_nanos or 0) * SMALL_PART_PERCENT // 100
    return cost.worst_nanos if cost.worst_nanos <= small else cost.window_nanos
