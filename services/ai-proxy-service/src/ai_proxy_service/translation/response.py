"""A collected answer as OpenAI's `chat.completion` object."""

from typing import Any

from ai_proxy_service.core.usage import TokenUsage
from ai_proxy_service.translation.answer import AnswerState
from ai_proxy_service.translation.usage import openai_usage


def chat_completion(
    answer: AnswerState,
    *,
    completion_id: str,
    created: int,
    model: str,
    finish: str,
    usage: TokenUsage | None,
) -> dict[str, Any]:
    """Return the body of a unary answer.

    Args:
        answer: the collected answer.
        completion_id: the id that the client sees.
        created: Unix time in seconds.
        model: the model as the client named it.
        finish: OpenAI's finish reason.
        usage: what Gemini reported.
    """
    text = "".join(answer.texts)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if answer.refusal else text,
        "refusal": answer.refusal,
        "annotations": [],
    }
    if answer.thoughts:
        message["reasoning_content"] = "".join(answer.thoughts)
    choice: dict[str, Any] = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": finish,
    }
    if answer.native_finish is not None:
        choice["native_finish_reason"] = answer.native_finish
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "system_fingerprint": None,
        "choices": [choice],
        "usage": openai_usage(usage),
    }
