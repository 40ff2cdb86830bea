"""How likely the chosen tokens were, in OpenAI's form."""

from collections.abc import Sequence
from typing import Any

from ai_proxy_service.core.gemini import LogprobsResult, TokenLogprob


def openai_logprobs(results: Sequence[LogprobsResult]) -> dict[str, Any] | None:
    """Return a choice's `logprobs`; None where Gemini gave none."""
    if not results:
        return None
    content: list[dict[str, Any]] = []
    for result in results:
        tops = result.top_candidates or []
        for place, chosen in enumerate(result.chosen_candidates or ()):
            likeliest = (tops[place].candidates or []) if place < len(tops) else []
            content.append(
                {**_token(chosen), "top_logprobs": [_token(other) for other in likeliest]}
            )
    return {"content": content, "refusal": None}


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.token,
        "logprob": token.log_probability,
        "bytes": list(token.token.encode()),
    }
