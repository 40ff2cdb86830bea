"""Gemini's chunks as OpenAI's `chat.completion.chunk` events, ready to be sent."""

from typing import Any

import msgspec

from ai_proxy_service.core.gemini import GenerateContentResponse
from ai_proxy_service.core.usage import TokenUsage
from ai_proxy_service.translation.answer import AnswerState, Call, CandidateState, Kind, Piece
from ai_proxy_service.translation.citations import citations
from ai_proxy_service.translation.logprobs import openai_logprobs
from ai_proxy_service.translation.message_parts import audio, image, legacy_call, tool_call
from ai_proxy_service.translation.remembered import Remembered
from ai_proxy_service.translation.usage import openai_tier, openai_usage

DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode
_UNFINISHED = b'},"logprobs":null,"finish_reason":null}]'


class ChatStreamTranslator:
    """Translates one stream; holds what must be the same in, or only once in, its chunks.

    Args:
        completion_id: the id that the client sees.
        created: Unix time in seconds.
        model: the model as the client named it.
        answer: follows what has come; empty.
        choices: how many answers were asked for.
        include_usage: the client asked for a last chunk with the usage.
        usage_on_finish: the usage stands on the last chunk that has choices, if it was not
            asked for.
        tier_asked: the client asked for a service tier, and is told the one it got.
        as_wav: a spoken answer is to be a WAV file.
    """

    def __init__(
        self,
        *,
        completion_id: str,
        created: int,
        model: str,
        answer: AnswerState,
        choices: int = 1,
        include_usage: bool = False,
        usage_on_finish: bool = False,
        tier_asked: bool = False,
        as_wav: bool = True,
    ) -> None:
        self.answer = answer
        self._completion_id = completion_id
        self._choices = choices
        self._include_usage = include_usage
        self._usage_on_finish = usage_on_finish and not include_usage
        self._tier_asked = tier_asked
        self._as_wav = as_wav
        self._begun = False
        self._images = dict.fromkeys(range(choices), 0)
        # The parts that never change are encoded once, around each chunk's choices.
        head = _encode(
            {
                "id": completion_id,
                "object": "chat.completion.chunk",
                "created": created,
                "model": model,
            }
        )
        self._head = b"data: " + head[:-1] + b',"choices":'
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._text_ends = _UNFINISHED + self._tail

    def chunk(self, received: GenerateContentResponse) -> bytes:
        """Return the events for one chunk of Gemini's; none if it adds nothing."""
        pieces, logprobs = self.answer.add(received), _logprobs(received)
        events = self._opening()
        for piece in pieces:
            if logprobs and piece.kind is Kind.CONTENT and piece.candidate in logprobs:
                # They are of the whole chunk, whatever it is made of.
                told = logprobs.pop(piece.candidate)
                events += self._choice(piece.candidate, {"content": piece.text}, logprobs=told)
            else:
                events += self._piece(piece)
        for index, told in logprobs.items():
            # They may also come with a chunk that has no text.
            if told and told["content"]:
                events += self._choice(index, {}, logprobs=told)
        return events

    def _opening(self) -> bytes:
        if self._begun:
            return b""
        # The role is said once, in a chunk of its own: clients join what is repeated.
        self._begun = True
        # A refused prompt has one answer, however many were asked for.
        choices = 1 if self.answer.is_blocked else self._choices
        return b"".join(
            self._choice(index, {"role": "assistant", "content": ""}) for index in range(choices)
        )

    def _piece(self, piece: Piece) -> bytes:
        if piece.kind is Kind.CONTENT:
            return self._text(piece.candidate, b"content", piece.text)
        if piece.kind is Kind.REASONING:
            return self._text(piece.candidate, b"reasoning_content", piece.text)
        if piece.call is not None:
            delta = _call_delta(piece.call)
            return self._choice(piece.candidate, delta) if delta else b""
        assert piece.blob is not None
        if piece.kind is Kind.IMAGE:
            place = self._images[piece.candidate] = self._images.get(piece.candidate, 0) + 1
            return self._choice(piece.candidate, {"images": [image(piece.blob, place - 1)]})
        # A recording is told once it is whole: its length stands at its beginning.
        return b""

    def _text(self, index: int, name: bytes, text: str) -> bytes:
        """Return a chunk with text only: the most frequent ones, written without a dictionary."""
        return b'%b[{"index":%d,"delta":{"%b":%b%b' % (
            self._head,
            index,
            name,
            _encode(text),
            self._text_ends,
        )

    def _choice(
        self, index: int, delta: dict[str, Any], *, logprobs: dict[str, Any] | None = None
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
        return self._head + _encode([choice]) + self._tail

    def finish(self) -> bytes:
        """Return what was held back, once no more chunks come."""
        events = self._opening()
        for piece in self.answer.finish():
            events += self._piece(piece)
        return events

    def end(self, reasons: dict[int, str], usage: TokenUsage | None, cost_nanos: int) -> bytes:
        """Return the events that end the choices and tell the usage.

        Args:
            reasons: OpenAI's finish reason of each choice, by index.
            usage: what Gemini reported.
            cost_nanos: what was charged, in nano-USD.
        """
        events = b""
        last = max(reasons)
        for index, reason in sorted(reasons.items()):
            state = self.answer.candidates.get(index) or CandidateState(index)
            events += self._rest(state)
            choice: dict[str, Any] = {
                "index": index,
                "delta": {},
                "logprobs": None,
                "finish_reason": reason,
            }
            native = self.answer.native_reason(index)
            if native is not None:
                choice["native_finish_reason"] = native
            events += self._head + _encode([choice])
            events += self._tier(usage)
            if index == last and self._usage_on_finish:
                events += b',"usage":' + _encode(openai_usage(usage, cost_nanos)) + b"}\n\n"
            else:
                events += self._tail
        if self._include_usage:
            events += self._head + b"[]" + self._tier(usage)
            events += b',"usage":' + _encode(openai_usage(usage, cost_nanos)) + b"}\n\n"
        return events

    def _rest(self, state: CandidateState) -> bytes:
        """Return what is known only at the end, each in a chunk of its own."""
        events = b""
        if self.answer.refusal:
            events += self._choice(state.index, {"refusal": self.answer.refusal})
        if state.sounds:
            recording = audio(state.sounds, self._completion_id, as_wav=self._as_wav)
            events += self._choice(state.index, {"audio": recording})
        found = citations(state)
        if found:
            # All at once: SDKs can't join lists whose items have no index.
            events += self._choice(state.index, {"annotations": found})
        if state.signature is not None:
            extra = Remembered(state.signature).extra_content()
            events += self._choice(state.index, {"extra_content": extra})
        return events

    def _tier(self, usage: TokenUsage | None) -> bytes:
        if not self._tier_asked:
            return b""
        return b',"service_tier":' + _encode(openai_tier(usage))


def _call_delta(call: Call) -> dict[str, Any]:
    if call.kind != "legacy":
        return {"tool_calls": [{"index": call.position, **tool_call(call)}]}
    # The old form has room for one.
    return {} if call.position else {"function_call": legacy_call(call)}


def _logprobs(received: GenerateContentResponse) -> dict[int, dict[str, Any] | None]:
    return {
        candidate.index or 0: openai_logprobs([candidate.logprobs_result])
        for candidate in received.candidates or ()
        if candidate.logprobs_result is not None
    }
