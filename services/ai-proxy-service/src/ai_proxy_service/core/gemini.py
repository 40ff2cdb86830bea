"""Gemini's wire form: what `generateContent` answers, as far as we read it.

Gemini's JSON is the inner language of the proxy; see the API reference at
https://ai.google.dev/api/generate-content. Everything is optional, as real traffic omits
nearly every field at times; unknown fields are ignored.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

GenerateContentBody = dict[str, Any]
"""A `generateContent` request body, ready to be encoded."""


class _Wire(msgspec.Struct, rename="camel", gc=False, omit_defaults=True):
    """Base of the wire types: camel case names, absent means default."""


class Blob(_Wire):
    """Data inside the message: an image, audio, a document. `data` is base64."""

    mime_type: str = ""
    data: str = ""


class PartialArgument(_Wire):
    """A piece of one argument, where a call comes in pieces (Vertex AI only)."""

    json_path: str = ""
    string_value: str | None = None
    number_value: float | None = None
    bool_value: bool | None = None
    null_value: Any = msgspec.UNSET
    will_continue: bool | None = None


class FunctionCall(_Wire):
    """A call of a function that the request declared. Older models give it no id."""

    name: str | None = None
    args: dict[str, Any] | None = None
    id: str | None = None
    partial_args: list[PartialArgument] | None = None
    will_continue: bool | None = None


class FunctionResponse(_Wire):
    """The result of a call that Gemini's own servers have made, for example over MCP."""

    name: str | None = None
    id: str | None = None


class ExecutableCode(_Wire):
    """A program that Gemini wrote and ran."""

    code: str = ""
    language: str | int | None = None


class CodeExecutionResult(_Wire):
    """What such a program printed."""

    output: str = ""
    outcome: str | int | None = None


class Part(_Wire):
    """One piece of content. `thought` marks a summary of the model's thinking."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    inline_data: Blob | None = None
    executable_code: ExecutableCode | None = None
    code_execution_result: CodeExecutionResult | None = None
    # A server-side tool's call and result: only handed back, never looked into.
    tool_call: dict[str, Any] | None = None
    tool_response: dict[str, Any] | None = None


class Content(_Wire):
    """The pieces that one side said."""

    parts: list[Part] | None = None
    role: str | None = None


class GroundingSource(_Wire):
    """A page or place that an answer rests on."""

    uri: str | None = None
    title: str | None = None


class GroundingChunk(_Wire):
    """One source; which member is there says what kind."""

    web: GroundingSource | None = None
    maps: GroundingSource | None = None
    retrieved_context: GroundingSource | None = None


class Segment(_Wire):
    """A stretch of the answer; offsets are in bytes of UTF-8."""

    start_index: int = 0
    end_index: int = 0
    text: str = ""


class GroundingSupport(_Wire):
    """Which sources a stretch of the answer rests on."""

    segment: Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class GroundingMetadata(_Wire):
    """What Gemini looked up for an answer."""

    grounding_chunks: list[GroundingChunk] | None = None
    grounding_supports: list[GroundingSupport] | None = None
    web_search_queries: list[str] | None = None


class TokenLogprob(_Wire):
    """How likely one token was."""

    token: str = ""
    log_probability: float = 0.0


class TopLogprobs(_Wire):
    """The likeliest tokens at one place."""

    candidates: list[TokenLogprob] | None = None


class LogprobsResult(_Wire):
    """How likely the chosen tokens were, and which others there were."""

    chosen_candidates: list[TokenLogprob] | None = None
    top_candidates: list[TopLogprobs] | None = None


class Candidate(_Wire):
    """One answer, or the next part of it in a stream."""

    content: Content | None = None
    finish_reason: str | int | None = None
    finish_message: str | None = None
    index: int | None = None
    grounding_metadata: GroundingMetadata | None = None
    logprobs_result: LogprobsResult | None = None


class PromptFeedback(_Wire):
    """Why the prompt was refused, if it was."""

    block_reason: str | int | None = None
    block_reason_message: str | None = None


class ModalityTokenCount(_Wire):
    """Tokens of one modality."""

    modality: str | int | None = None
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
    service_tier: str | None = None


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


_REASON = re.compile(r"[A-Z_]{0,40}")


class GeminiError(Exception):
    """Gemini refused or failed.

    Attributes:
        status: HTTP status, or the error object's code when it came inside a stream.
        reason: Google's canonical status, for example ``RESOURCE_EXHAUSTED``.
        message: Google's own text. It may quote the request, so that it is for telling errors
            apart: neither clients nor the log see it, and `str` of the error leaves it out.
        details: Google's typed details, for example a ``RetryInfo``.
        other_key_may_help: the trouble is the API key's, and there is another one.
    """

    def __init__(
        self, status: int, reason: str, message: str, details: list[Any] | None = None
    ) -> None:
        # A word of Google's, or of whoever answered in its place.
        reason = reason if _REASON.fullmatch(reason) else "UNKNOWN"
        super().__init__(f"{status} {reason}")
        self.other_key_may_help = False
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
    """No answer, or one that broke off: connection refused, reset, or timed out; or no way to ask.

    Args:
        message: what happened, in words of our own, which `str` of the error shows.
        timed_out: it took too long.
        busy: this process has no room for the call.
    """

    def __init__(self, message: str, *, timed_out: bool = False, busy: bool = False) -> None:
        if timed_out:
            super().__init__(504, "DEADLINE_EXCEEDED", message)
        elif busy:
            super().__init__(503, "UNAVAILABLE", message)
        else:
            super().__init__(502, "UNREACHABLE", message)

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.message}"
