"""Gemini's wire form: what `generateContent` answers, as far as we read it.

Gemini's JSON is the inner language of the proxy; see the API reference at
https://ai.google.dev/api/generate-content. Everything is optional, as real traffic omits
nearly every field at times; unknown fields are ignored.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

GenerateContentBody = dict[str, Any]
"""A `generateContent` request body, ready to be encoded."""


class _Wire(msgspec.Struct, rename="camel", gc=False, omit_defaults=True):
    """Base of the wire types: camel case names, absent means default."""


class Part(_Wire):
    """One piece of content. `thought` marks a summary of the model's thinking."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None


class Content(_Wire):
    """The pieces that one side said."""

    parts: list[Part] | None = None
    role: str | None = None


class Candidate(_Wire):
    """One answer, or the next part of it in a stream."""

    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int | None = None


class PromptFeedback(_Wire):
    """Why the prompt was refused, if it was."""

    block_reason: str | None = None
    block_reason_message: str | None = None


class ModalityTokenCount(_Wire):
    """Tokens of one modality."""

    modality: str | None = None
    token_count: int = 0


class UsageMetadata(_Wire):
    """Token counts; in a stream each chunk's are cumulative, and the last one's are right."""

    prompt_token_count: int = 0
    cached_content_token_count: int = 0
    candidates_token_count: int = 0
    tool_use_prompt_token_count: int = 0
    thoughts_token_count: int = 0
    total_token_count: int = 0
    prompt_tokens_details: list[ModalityTokenCount] | None = None
    cache_tokens_details: list[ModalityTokenCount] | None = None
    candidates_tokens_details: list[ModalityTokenCount] | None = None


class ErrorStatus(_Wire):
    """Google's error object, as a body of its own or inside a stream."""

    code: int = 0
    message: str = ""
    status: str = ""
    details: list[Any] | None = None


class GenerateContentResponse(_Wire):
    """A whole answer, or one chunk of a stream."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: UsageMetadata | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: ErrorStatus | None = None


class GeminiError(Exception):
    """Gemini refused or failed.

    Attributes:
        status: HTTP status, or the error object's code when it came inside a stream.
        reason: Google's canonical status, for example ``RESOURCE_EXHAUSTED``.
        message: Google's own text; may show internals, so clients see it for bad requests only.
        details: Google's typed details, for example a ``RetryInfo``.
    """

    def __init__(
        self, status: int, reason: str, message: str, details: list[Any] | None = None
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details or []

    @classmethod
    def of(cls, error: ErrorStatus, http_status: int = 0) -> "GeminiError":
        """Make the exception for an error object; its own code is the fallback status."""
        return cls(http_status or error.code or 500, error.status, error.message, error.details)

    def detail(self, type_name: str) -> Mapping[str, Any]:
        """Return the first detail of a type, for example ``RetryInfo``, or an empty mapping."""
        for detail in self.details:
            if isinstance(detail, dict) and str(detail.get("@type", "")).endswith(type_name):
                return detail
        return {}


class GeminiUnreachableError(GeminiError):
    """No answer, or one that broke off: connection refused, reset, or timed out."""

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(
            504 if timed_out else 503, "DEADLINE_EXCEEDED" if timed_out else "UNAVAILABLE", message
        )
