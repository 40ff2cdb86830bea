"""What is to be completed, and for whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ai_proxy_service.core.gemini import GenerateContentBody
from ai_proxy_service.core.pricing import ModelPrice

# Thinking counts against the output limit: with less than this, a model that thinks as it
# likes may spend all of it before the first word.
SMALL_LIMIT_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Order:
    """One completion as it was asked for.

    Attributes:
        completion_id: the id that the client sees; also makes the settlement's key.
        request_id: the HTTP request's id.
        account: who pays.
        key_name: the name of the key that asked.
        model: Gemini's id of the model.
        price: its price.
        catalog_version: where the price is from.
        body: the `generateContent` body.
        encoded_bytes: the body's size as sent.
        max_output_tokens: the most output that the request and the model allow.
        least_thinking: `thinkingConfig` for an output limit that had to be made small; None
            where the client decided, or the model does not think.
        streamed: whether the client wants it as a stream.
    """

    completion_id: str
    request_id: str
    account: str
    key_name: str
    model: str
    price: ModelPrice
    catalog_version: str
    body: GenerateContentBody
    encoded_bytes: int
    max_output_tokens: int
    least_thinking: Mapping[str, Any] | None
    streamed: bool

    def limited_body(self, max_output_tokens: int) -> GenerateContentBody:
        """Return the body with an output limit, and no more thinking than fits in it."""
        config = dict(self.body.get("generationConfig", {}))
        config["maxOutputTokens"] = max_output_tokens
        if max_output_tokens < SMALL_LIMIT_TOKENS and self.least_thinking is not None:
            config["thinkingConfig"] = dict(self.least_thinking)
        return {**self.body, "generationConfig": config}
