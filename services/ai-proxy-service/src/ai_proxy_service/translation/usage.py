"""Token counts, their cost, and the service tier in OpenAI's form."""

from typing import Any

from ai_proxy_service.core.money import usd_text
from ai_proxy_service.core.usage import STANDARD_TIER, TokenUsage


def openai_usage(usage: TokenUsage | None, cost_nanos: int) -> dict[str, Any]:
    """Return OpenAI's `usage` object with what was charged; what was not reported is 0.

    Thinking is inside the completion tokens: clients subtract it to find the text's.

    Args:
        usage: what Gemini reported.
        cost_nanos: what was charged for the answer, in nano-USD.
    """
    counts = usage or TokenUsage()
    return {
        "prompt_tokens": counts.input_tokens,
        "completion_tokens": counts.output_tokens,
        "total_tokens": counts.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": counts.cached_tokens,
            "audio_tokens": counts.prompt_audio_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": counts.thoughts_tokens,
            "audio_tokens": counts.output_audio_tokens,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        "cost": usd_text(cost_nanos),
    }


def openai_tier(usage: TokenUsage | None) -> str:
    """Return OpenAI's name for the service tier that was used."""
    tier = usage.service_tier if usage is not None else ""
    return "default" if tier in {"", STANDARD_TIER} else tier
