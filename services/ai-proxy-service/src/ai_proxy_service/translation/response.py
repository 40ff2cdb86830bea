"""A collected answer as OpenAI's `chat.completion` object."""

from typing import Any

from ai_proxy_service.core.usage import TokenUsage
from ai_proxy_service.translation.answer import AnswerState, CandidateState
from ai_proxy_service.translation.citations import citations
from ai_proxy_service.translation.logprobs import openai_logprobs
from ai_proxy_service.translation.message_parts import audio, image, legacy_call, tool_call
from ai_proxy_service.translation.remembered import Remembered
from ai_proxy_service.translation.usage import openai_tier, openai_usage


def chat_completion(
    answer: AnswerState,
    *,
    completion_id: str,
    created: int,
    model: str,
    reasons: dict[int, str],
    usage: TokenUsage | None,
    cost_nanos: int,
    tier_asked: bool = False,
    as_wav: bool = True,
) -> dict[str, Any]:
    """Return the body of a unary answer.

    Args:
        answer: the collected answer.
        completion_id: the id that the client sees.
        created: Unix time in seconds.
        model: the model as the client named it.
        reasons: OpenAI's finish reason of each choice, by index.
        usage: what Gemini reported.
        cost_nanos: what was charged, in nano-USD.
        tier_asked: whether the client asked for a service tier, and is told the one it got.
        as_wav: whether a spoken answer is to be a WAV file.
    """
    choices = [
        _choice(answer, answer.candidates.get(index), index, reason, completion_id, as_wav=as_wav)
        for index, reason in sorted(reasons.items())
    ]
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        **({"service_tier": openai_tier(usage)} if tier_asked else {}),
        "choices": choices,
        "usage": openai_usage(usage, cost_nanos),
    }


def _choice(
    answer: AnswerState,
    state: CandidateState | None,
    index: int,
    reason: str,
    completion_id: str,
    *,
    as_wav: bool,
) -> dict[str, Any]:
    state = state or CandidateState(index)
    choice: dict[str, Any] = {
        "index": index,
        "message": _message(answer, state, completion_id, as_wav=as_wav),
        "logprobs": openai_logprobs(state.logprobs),
        "finish_reason": reason,
    }
    native = answer.native_reason(index)
    if native is not None:
        choice["native_finish_reason"] = native
    return choice


def _message(
    answer: AnswerState, state: CandidateState, completion_id: str, *, as_wav: bool
) -> dict[str, Any]:
    text: str | None = "".join(state.contents)
    if answer.refusal or (not text and (state.calls or state.sounds)):
        text = None
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text,
        "refusal": answer.refusal,
        "annotations": citations(state),
    }
    if state.thoughts:
        message["reasoning_content"] = "".join(state.thoughts)
    if state.calls:
        _add_calls(message, state)
    if state.images:
        message["images"] = [image(blob, place) for place, blob in enumerate(state.images)]
    if state.sounds:
        message["audio"] = audio(state.sounds, completion_id, as_wav=as_wav)
    if state.signature is not None:
        message["extra_content"] = Remembered(state.signature).extra_content()
    return message


def _add_calls(message: dict[str, Any], state: CandidateState) -> None:
    first = state.calls[0]
    if first.kind == "legacy":
        message["function_call"] = legacy_call(first)
    else:
        message["tool_calls"] = [tool_call(call) for call in state.calls]
