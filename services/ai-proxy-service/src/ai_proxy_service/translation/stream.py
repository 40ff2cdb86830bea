"""Gemini's chunks as OpenAI's `chat.completion.chunk` events, ready to be sent."""

from typing import Any

import msgspec

from ai_proxy_service.core.gemini import GenerateContentResponse
from ai_proxy_service.core.usage import TokenUsage
from ai_proxy_service.translation.answer import AnswerState
from ai_proxy_service.translation.usage import openai_usage

DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode


class ChatStreamTranslator:
    """Translates one stream; holds what must be the same in, or only once in, its chunks.

    Attributes:
        answer: what has come so far.
    """

    def __init__(
        self, *, completion_id: str, created: int, model: str, include_usage: bool
    ) -> None:
        self.answer = AnswerState()
        self._include_usage = include_usage
        self._begun = False
        # The parts that never change are encoded once, around each chunk's choices.
        head = _encode(
            {
                "id": completion_id,
                "object": "chat.completion.chunk",
                "created": created,
                "model": model,
                "system_fingerprint": None,
            }
        )
        self._head = b"data: " + head[:-1] + b',"choices":'
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"

    def chunk(self, received: GenerateContentResponse) -> bytes:
        """Return the events for one chunk of Gemini's; none if it adds nothing."""
        delta = self.answer.add(received)
        events = b""
        if not self._begun:
            # The role is said once, in a chunk of its own: clients join what is repeated.
            self._begun = True
            events = self._choice({"role": "assistant", "content": ""})
        if delta.reasoning:
            events += self._choice({"reasoning_content": delta.reasoning})
        if delta.text:
            events += self._choice({"content": delta.text})
        return events

    def _choice(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice: dict[str, Any] = {
            "index": 0,
            "delta": delta,
            "logprobs": None,
            "finish_reason": finish,
        }
        if finish is not None and self.answer.native_finish is not None:
            choice["native_finish_reason"] = self.answer.native_finish
        return self._head + _encode([choice]) + self._tail

    def finish(self, reason: str) -> bytes:
        """Return the event that ends the choice."""
        events = b""
        if self.answer.refusal:
            events = self._choice({"refusal": self.answer.refusal})
        return events + self._choice({}, reason)

    def usage(self, usage: TokenUsage | None) -> bytes:
        """Return the usage event, if the client asked for it: once, last, without choices."""
        if not self._include_usage:
            return b""
        return self._head + b'[],"usage":' + _encode(openai_usage(usage)) + b"}\n\n"
