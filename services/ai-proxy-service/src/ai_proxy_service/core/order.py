"""What is to be completed, and for whom."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ai_proxy_service.core.gemini import GenerateContentBody
from ai_proxy_service.core.issued_keys import IssuedKey
from ai_proxy_service.core.key_limits import UNLIMITED_USE, KeyUse
from ai_proxy_service.core.moments import now_micros
from ai_proxy_service.core.pricing import ModelPrice
from ai_proxy_service.core.recording import Recording
from ai_proxy_service.core.usage import STANDARD_TIER

# Thinking counts against the output limit: with less than this, a model that thinks as it
# likes may spend all of it before the first word.
SMALL_LIMIT_TOKENS = 1024
# How many prompts one request may have.
PROMPTS_MAX = 20
# Stands before the number of a prompt in the ids of an answer to several.
_PROMPT_SIGN = "."


def billing_key(completion_id: str, attempt: int) -> str:
    """Return what makes the idempotency keys of an attempt's hold and charge."""
    return completion_id if attempt == 1 else f"{completion_id}-{attempt}"


def prompt_id(answer_id: str, place: int) -> str:
    """Return the completion id of one of an answer's prompts; the first has the answer's own."""
    return answer_id if place == 0 else f"{answer_id}{_PROMPT_SIGN}{place + 1}"


def completion_ids(answer_id: str) -> list[str]:
    """Return all completion ids that an answer may have."""
    return [prompt_id(answer_id, place) for place in range(PROMPTS_MAX)]


def answer_id_of(completion_id: str) -> str:
    """Return the id that the client saw of the answer that a completion is part of."""
    return completion_id.partition(_PROMPT_SIGN)[0]


@dataclass(frozen=True, slots=True)
class Order:
    """One completion as it was asked for.

    Attributes:
        completion_id: the id that the client sees; also makes the settlement's key.
        request_id: the HTTP request's id.
        account: who pays.
        key_name: the name of the key that asked; an issued key's is its id.
        issued_key: that key, if it is an issued one.
        key_use: what it counts for among that key's limits.
        end_user: whom the holder of an issued key asks for, in his own words.
        model: Gemini's id of the model.
        price: its price.
        catalog_version: where the price is from.
        body: the `generateContent` body.
        prompt_bound_tokens: the most tokens that the prompt can have.
        max_output_tokens: the most output that the request and the model allow for one answer.
        least_thinking: `thinkingConfig` for an output limit that had to be made small; None
            where the client decided, or the model does not think.
        streamed: whether the client wants it as a stream.
        without_signatures: the body with placeholders for all thought signatures, to be tried if
            Gemini refuses those in it; None if there are none.
        tier: Google's service tier that was asked for.
        lookups_pico: what Google's own tools may cost besides tokens, in pico-USD.
        audible: the prompt may have sound, which costs more than text.
        input_may_grow: what Gemini first says of the input is not the last word.
        may_be_empty: an answer without anything is one, as it may have stopped at its first word.
        candidates: how many answers are wanted side by side.
        recording: where its answer is recorded, if the client has an idempotency key for it.
        attempt: 1, or 2 for a repetition of an answer that could not be used.
        started_at_micros: when it was asked for.
    """

    completion_id: str
    request_id: str
    account: str
    key_name: str
    model: str
    price: ModelPrice
    catalog_version: str
    body: GenerateContentBody
    prompt_bound_tokens: int
    max_output_tokens: int
    least_thinking: Mapping[str, Any] | None
    streamed: bool
    without_signatures: Callable[[], GenerateContentBody] | None = None
    tier: str = STANDARD_TIER
    lookups_pico: int = 0
    audible: bool = False
    input_may_grow: bool = False
    may_be_empty: bool = False
    candidates: int = 1
    recording: Recording | None = None
    issued_key: IssuedKey | None = None
    key_use: KeyUse = UNLIMITED_USE
    end_user: str | None = None
    attempt: int = 1
    started_at_micros: int = field(default_factory=now_micros)

    @property
    def billing_key(self) -> str:
        """What makes the idempotency keys of this attempt's hold and charge."""
        return billing_key(self.completion_id, self.attempt)

    @property
    def key_id(self) -> str | None:
        """The issued key whose spend limits count; None for a configured key."""
        return None if self.issued_key is None else self.issued_key.name

    @property
    def stopped(self) -> bool:
        """Whether its answer may not go on, whoever waits for it."""
        return self.recording is not None and self.recording.stopped

    @property
    def all_output_tokens(self) -> int:
        """The most output of all answers together."""
        return self.max_output_tokens * self.candidates

    def limited_body(self, all_output_tokens: int) -> GenerateContentBody:
        """Return the body with an output limit, and no more thinking than fits in it.

        Args:
            all_output_tokens: the limit for all answers together.
        """
        max_output_tokens = max(1, all_output_tokens // self.candidates)
        config = dict(self.body.get("generationConfig", {}))
        config["maxOutputTokens"] = max_output_tokens
        if max_output_tokens < SMALL_LIMIT_TOKENS and self.least_thinking is not None:
            config["thinkingConfig"] = dict(self.least_thinking)
        return {**self.body, "generationConfig": config}
