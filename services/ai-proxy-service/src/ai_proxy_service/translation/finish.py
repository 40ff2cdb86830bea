"""Why an answer ended: Gemini's reasons as OpenAI's five."""

from collections.abc import Mapping

from ai_proxy_service.core.gemini import GenerateContentResponse
from ai_proxy_service.core.gemini_answers import block_name

STOP = "stop"
LENGTH = "length"
CONTENT_FILTER = "content_filter"

# https://ai.google.dev/api/generate-content#FinishReason
_REASONS: Mapping[str, str] = {
    "STOP": STOP,
    "FINISH_REASON_UNSPECIFIED": STOP,
    "MAX_TOKENS": LENGTH,
    # More would follow if it were asked for; to a client that is an answer cut short.
    "CONTINUATION": LENGTH,
    **dict.fromkeys(
        (
            *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
            *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "ESCALATION"),
            *("PUP_LIMITED_DISABLED", "MODEL_ARMOR"),
        ),
        CONTENT_FILTER,
    ),
}


def finish_reason(native: str, *, has_output: bool, calls: str | None = None) -> str:
    """Return OpenAI's word for a reason that is not in `BROKEN_FINISHES`.

    Args:
        native: Gemini's reason.
        has_output: whether the answer has any; without, an unclear end is a refusal.
        calls: OpenAI's word for an answer that calls functions, if this one does. Gemini has
            none: such an answer ends like any other.
    """
    reason = _REASONS.get(native) or (STOP if has_output else CONTENT_FILTER)
    return calls if calls is not None and reason == STOP else reason


def prompt_block(answer: GenerateContentResponse) -> str | None:
    """Return the reason for which a prompt was refused as a whole, if it was."""
    feedback = answer.prompt_feedback
    if answer.candidates or feedback is None:
        return None
    return block_name(feedback.block_reason) or ("OTHER" if feedback.block_reason_message else None)
