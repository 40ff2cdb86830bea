"""Why an answer ended: Gemini's reasons as OpenAI's five."""

from collections.abc import Mapping

from ai_proxy_service.core.gemini import GenerateContentResponse

STOP = "stop"
LENGTH = "length"
CONTENT_FILTER = "content_filter"

# https://ai.google.dev/api/generate-content#FinishReason
_REASONS: Mapping[str, str] = {
    "STOP": STOP,
    "FINISH_REASON_UNSPECIFIED": STOP,
    "MAX_TOKENS": LENGTH,
    **dict.fromkeys(
        (
            *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
            *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "ESCALATION"),
            *("PUP_LIMITED_DISABLED", "MODEL_ARMOR"),
        ),
        CONTENT_FILTER,
    ),
}
# The model produced something that can't be used: a failure, never a silent stop.
BROKEN = frozenset(
    {
        *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"),
        *("TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE"),
    }
)


def finish_reason(native: str, *, has_output: bool) -> str:
    """Return OpenAI's word for a reason that is not in `BROKEN`.

    Args:
        native: Gemini's reason.
        has_output: whether the answer has any text; without, an unclear end is a refusal.
    """
    return _REASONS.get(native) or (STOP if has_output else CONTENT_FILTER)


def prompt_block(answer: GenerateContentResponse) -> str | None:
    """Return the reason for which a prompt was refused as a whole, if it was."""
    feedback = answer.prompt_feedback
    if answer.candidates or feedback is None:
        return None
    return feedback.block_reason or ("OTHER" if feedback.block_reason_message else None)
