"""OpenAI's text completions, the form before there was chat, on top of chat.

OpenAI's API reference, "Create completion".
"""

from typing import Annotated, Any

import msgspec

from ai_proxy_service.core.errors import InvalidRequestError, missing_parameter
from ai_proxy_service.core.gemini import GenerateContentResponse
from ai_proxy_service.core.order import PROMPTS_MAX
from ai_proxy_service.core.usage import TokenUsage
from ai_proxy_service.translation.answer import AnswerState, CandidateState, Kind
from ai_proxy_service.translation.checks import check_options, unsupported
from ai_proxy_service.translation.openai_types import (
    AccountName,
    ChatRequest,
    LogitBias,
    Message,
    Penalty,
    PositiveInt,
    Probability,
    StreamOptions,
    Temperature,
)
from ai_proxy_service.translation.usage import openai_usage
from service_kit.body import decode_body

_encode = msgspec.json.Encoder().encode


class TextRequest(msgspec.Struct):
    """The body of `POST /v1/completions`; `null` counts as absent, unknown fields are ignored."""

    model: str
    prompt: str | list[str | int | list[int]] | None = None
    max_tokens: PositiveInt | None = None
    temperature: Temperature | None = None
    top_p: Probability | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    best_of: PositiveInt | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    seed: int | None = None
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[str, LogitBias] | None = None
    user: AccountName | None = None
    user_id: AccountName | None = None
    google: dict[str, Any] | None = None
    extra_body: dict[str, Any] | None = None


_DECODER = msgspec.json.Decoder(TextRequest)


def parse_text(body: bytes) -> TextRequest:
    """Decode and check a completion request.

    Raises:
        InvalidBodyError: malformed, or a field of the wrong type or range.
        InvalidRequestError: it asks for what is not there.
    """
    request = decode_body(body, _DECODER)
    if request.echo:
        raise unsupported("echo")
    if request.suffix:
        raise unsupported("suffix")
    if (request.best_of or 1) > 1:
        raise unsupported("best_of")
    if len(prompts_of(request)) > 1 and request.stream:
        raise unsupported("prompt", "Only one prompt at a time can be streamed.")
    check_options(as_chat(request, ""))
    return request


def prompts_of(request: TextRequest) -> list[str]:
    """Return the prompts.

    Raises:
        InvalidRequestError: there is none, too many, an empty one, or they come as tokens.
    """
    given = request.prompt
    if given is None:
        raise missing_parameter("prompt")
    items = [given] if isinstance(given, str) else given
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) < len(items):
        raise unsupported("prompt", "Tokens are not Gemini's: send text.")
    if not texts or not all(texts) or len(texts) > PROMPTS_MAX:
        raise InvalidRequestError(
            f"Invalid 'prompt': expected 1 to {PROMPTS_MAX} texts, none of them empty.",
            field="prompt",
        )
    return texts


def as_chat(request: TextRequest, prompt: str) -> ChatRequest:
    """Return the chat request that a prompt stands for."""
    return ChatRequest(
        model=request.model,
        messages=[Message("user", prompt)],
        stream=request.stream,
        stream_options=request.stream_options,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        n=request.n,
        stop=request.stop,
        seed=request.seed,
        logprobs=None if request.logprobs is None else True,
        top_logprobs=request.logprobs,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        logit_bias=request.logit_bias,
        google=request.google,
        extra_body=request.extra_body,
        user=request.user or request.user_id,
    )


def text_choices(
    answer: AnswerState, reasons: dict[int, str], first_index: int
) -> list[dict[str, Any]]:
    """Return the choices for one prompt, numbered from `first_index` on."""
    return [
        _choice(
            "".join(_state(answer, index).contents),
            first_index + index,
            _legacy_logprobs(_state(answer, index)),
            reason,
        )
        for index, reason in sorted(reasons.items())
    ]


def _state(answer: AnswerState, index: int) -> CandidateState:
    return answer.candidates.get(index) or CandidateState(index)


def _choice(
    text: str, index: int, logprobs: dict[str, Any] | None, reason: str | None
) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": reason}


def _legacy_logprobs(state: CandidateState) -> dict[str, Any] | None:
    if not state.logprobs:
        return None
    tokens: list[str] = []
    chosen: list[float] = []
    likeliest: list[dict[str, float]] = []
    offsets: list[int] = []
    at = 0
    for result in state.logprobs:
        for token in result.chosen_candidates or ():
            tokens.append(token.token)
            chosen.append(token.log_probability)
            offsets.append(at)
            at += len(token.token)
        likeliest += [
            {other.token: other.log_probability for other in top.candidates or ()}
            for top in result.top_candidates or ()
        ]
    return {
        "tokens": tokens,
        "token_logprobs": chosen,
        "top_logprobs": likeliest,
        "text_offset": offsets,
    }


def text_completion(
    choices: list[dict[str, Any]],
    *,
    completion_id: str,
    created: int,
    model: str,
    usage: dict[str, Any],
) -> dict[str, Any]:
    """Return the body of a whole answer."""
    return {
        "id": completion_id,
        "object": "text_completion",
        "created": created,
        "model": model,
        "choices": choices,
        "usage": usage,
    }


class TextStreamTranslator:
    """Gemini's chunks as `text_completion` events.

    Attributes:
        answer: what has come so far.
    """

    def __init__(
        self,
        *,
        completion_id: str,
        created: int,
        model: str,
        include_usage: bool,
        may_be_empty: bool = True,
    ) -> None:
        self.answer = AnswerState(may_be_empty=may_be_empty)
        self._include_usage = include_usage
        self._head = {
            "id": completion_id,
            "object": "text_completion",
            "created": created,
            "model": model,
        }

    def chunk(self, received: GenerateContentResponse) -> bytes:
        """Return the events for one chunk of Gemini's."""
        return b"".join(
            self._event([_choice(piece.text, piece.candidate, None, None)])
            for piece in self.answer.add(received)
            if piece.kind is Kind.CONTENT
        )

    def finish(self) -> bytes:
        """Nothing is held back."""
        return b""

    def end(self, reasons: dict[int, str], usage: TokenUsage | None, cost_nanos: int) -> bytes:
        """Return the events that end the choices and tell the usage."""
        events = b"".join(
            self._event([_choice("", index, _legacy_logprobs(_state(self.answer, index)), reason)])
            for index, reason in sorted(reasons.items())
        )
        if self._include_usage:
            events += self._event([], openai_usage(usage, cost_nanos))
        return events

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        told = {"usage": usage} if self._include_usage else {}
        return b"data: " + _encode({**self._head, "choices": choices, **told}) + b"\n\n"
