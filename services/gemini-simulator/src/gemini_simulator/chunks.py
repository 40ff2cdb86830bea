"""Cut an answer into the chunks of a stream, or put it together as one response.

Where text, calls, signatures and finish reasons stand follows recorded streams: 2.x ends with
its last text or with all calls in one chunk; 3.x spreads parallel calls over chunks and ends
with a chunk of empty text, which carries the signature of an answer without calls.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, cycle, zip_longest
from typing import Any

from gemini_simulator.answer import Answer, Candidate
from gemini_simulator.behaviour import Behaviour
from gemini_simulator.reports import grounding, has_usage, tools_are_due, usage_metadata

_HARM_CATEGORIES = (
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
)
_BLOCKING = frozenset({"SAFETY", "PROHIBITED_CONTENT", "IMAGE_SAFETY"})
_ROLE_ONLY = frozenset({"STOP", "MAX_TOKENS"})


@dataclass(frozen=True, slots=True)
class Step:
    """A chunk to send.

    Attributes:
        chunk: JSON form.
        units: answer tokens that have to be produced for it; a call counts as one.
    """

    chunk: dict[str, Any]
    units: int


@dataclass(frozen=True, slots=True)
class _Piece:
    candidate: Candidate
    parts: list[dict[str, Any]] | None  # None for a content without parts
    units: int = 0
    tokens: int = 0
    thoughts: int = 0
    ending: dict[str, Any] = field(default_factory=dict)
    has_content: bool = True


def stream_steps(answer: Answer, behaviour: Behaviour, tokens_per_chunk: int) -> Iterator[Step]:
    """Yield the chunks of a stream in order, made as they are asked for."""
    if not answer.candidates:
        yield Step(_blocked(answer, behaviour), 0)
        return
    streams = (
        _pieces(answer, candidate, behaviour, tokens_per_chunk) for candidate in answer.candidates
    )
    pieces = (piece for piece in chain.from_iterable(zip_longest(*streams)) if piece is not None)
    tokens = thoughts = units = number = 0
    tools_told = False
    held: _Piece | None = next(pieces)
    while held is not None:
        piece, held = held, next(pieces, None)
        number += 1
        tokens += piece.tokens
        thoughts += piece.thoughts
        units += piece.units
        candidate = _wire_candidate(answer, piece)
        if behaviour.early_finish_after == units and piece.units:
            candidate.setdefault("finishReason", "STOP")
        if not tools_told and tools_are_due(behaviour, tokens, last=held is None):
            tools_told = True
            candidate |= grounding(behaviour)
        chunk: dict[str, Any] = {"candidates": [candidate]}
        if has_usage(behaviour.usage, number, last=held is None):
            chunk["usageMetadata"] = usage_metadata(
                answer, behaviour, tokens, thoughts, last=held is None, tools_told=tools_told
            )
        yield Step(_with_ids(chunk, answer), piece.units)


def whole_response(answer: Answer, behaviour: Behaviour) -> dict[str, Any]:
    """Return the answer as `generateContent` gives it."""
    if not answer.candidates:
        return _blocked(answer, behaviour)
    candidates = [_wire_candidate(answer, _whole(answer, c)) for c in answer.candidates]
    candidates[0] |= grounding(behaviour)
    response: dict[str, Any] = {"candidates": candidates}
    if behaviour.usage != "none":
        thoughts = sum(candidate.thought_tokens for candidate in answer.candidates)
        response["usageMetadata"] = usage_metadata(
            answer, behaviour, answer.tokens, thoughts, last=True, tools_told=True
        )
    return _with_ids(response, answer)


def _pieces(
    answer: Answer, candidate: Candidate, behaviour: Behaviour, tokens_per_chunk: int
) -> Iterator[_Piece]:
    """Cut one candidate; the last piece, and no other, has the ending."""
    ending = _ending(candidate)
    shape = behaviour.finish_chunk
    if shape is None:
        shape = "empty_text" if answer.model.is_gemini_3 else "merged"
    thoughts = candidate.thought_tokens
    if candidate.thoughts:
        yield from _thought_pieces(candidate, behaviour.thought_chunk)
        thoughts = 0
    body = [*_text_pieces(candidate, tokens_per_chunk), *_call_pieces(answer, candidate)]
    for number, piece in enumerate(body):
        merged = shape == "merged" and number == len(body) - 1
        yield _Piece(
            candidate,
            piece.parts,
            piece.units,
            piece.tokens,
            0 if number else thoughts,
            ending if merged else {},
        )
    if body and shape == "merged":
        return
    left = 0 if body else thoughts
    if body and shape == "empty_text":
        last: dict[str, Any] = {"text": ""}
        if candidate.signature and not candidate.calls:
            last["thoughtSignature"] = candidate.signature
        if candidate.calls and behaviour.finish_message is None:
            ending.pop("finishMessage", None)  # it goes with the call or not at all
        yield _Piece(candidate, [last], thoughts=left, ending=ending)
        return
    has_content = _has_content(candidate) if not body else shape != "absent"
    yield _Piece(candidate, None, thoughts=left, ending=ending, has_content=has_content)


def _thought_pieces(candidate: Candidate, tokens_per_piece: int | None) -> Iterator[_Piece]:
    """Cut the thinking: into its summaries, or into pieces that are waited for like others."""
    left = candidate.thought_tokens
    if tokens_per_piece is None:
        for number, summary in enumerate(candidate.thoughts):
            share = left // (len(candidate.thoughts) - number)
            left -= share
            yield _Piece(candidate, [{"text": summary, "thought": True}], thoughts=share)
        return
    for summary in cycle(candidate.thoughts):
        share = min(left, tokens_per_piece)
        left -= share
        yield _Piece(candidate, [{"text": summary, "thought": True}], share, thoughts=share)
        if not left:
            return


def _text_pieces(candidate: Candidate, tokens_per_chunk: int) -> Iterator[_Piece]:
    for start in range(0, len(candidate.tokens), tokens_per_chunk):
        tokens = candidate.tokens[start : start + tokens_per_chunk]
        yield _Piece(candidate, [{"text": "".join(tokens)}], len(tokens), len(tokens))


def _call_parts(candidate: Candidate) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"functionCall": call.wire} for call in candidate.calls]
    if parts and candidate.signature:
        parts[0]["thoughtSignature"] = candidate.signature
    return parts


def _call_pieces(answer: Answer, candidate: Candidate) -> Iterator[_Piece]:
    parts = _call_parts(candidate)
    if not parts:
        return
    if not answer.model.is_gemini_3:
        tokens = sum(call.tokens for call in candidate.calls)
        yield _Piece(candidate, parts, len(parts), tokens)
        return
    for part, call in zip(parts, candidate.calls, strict=True):
        yield _Piece(candidate, [part], 1, call.tokens)


def _whole(answer: Answer, candidate: Candidate) -> _Piece:
    parts: list[dict[str, Any]] = []
    if candidate.thoughts:
        parts.append({"text": "".join(candidate.thoughts), "thought": True})
    if candidate.tokens:
        parts.append({"text": "".join(candidate.tokens)})
        if candidate.signature and not candidate.calls and answer.model.is_gemini_3:
            parts[-1]["thoughtSignature"] = candidate.signature
    parts += _call_parts(candidate)
    has_content = bool(parts) or _has_content(candidate)
    return _Piece(candidate, parts or None, ending=_ending(candidate), has_content=has_content)


def _has_content(candidate: Candidate) -> bool:
    """Tell whether an answer without parts has a content at all; recorded ones differ."""
    return candidate.finish in _ROLE_ONLY | _BLOCKING


def _ending(candidate: Candidate) -> dict[str, Any]:
    ending: dict[str, Any] = {}
    if candidate.finish is not None:
        ending["finishReason"] = candidate.finish
    if candidate.finish_message is not None:
        ending["finishMessage"] = candidate.finish_message
    if candidate.finish in _BLOCKING:
        ending["safetyRatings"] = _ratings(blocked=True)
    return ending


def _ratings(*, blocked: bool) -> list[dict[str, Any]]:
    ratings: list[dict[str, Any]] = [
        {"category": category, "probability": "NEGLIGIBLE"} for category in _HARM_CATEGORIES
    ]
    if blocked:
        ratings[1] |= {"probability": "HIGH", "blocked": True}
    return ratings


def _wire_candidate(answer: Answer, piece: _Piece) -> dict[str, Any]:
    wire: dict[str, Any] = {}
    if piece.parts is not None:
        wire["content"] = {"parts": piece.parts, "role": "model"}
    elif piece.has_content:
        blocked = piece.ending.get("finishReason") in _BLOCKING
        wire["content"] = {} if blocked else {"role": "model"}
    wire |= piece.ending
    if answer.model.generation > (2, 0) or piece.candidate.index:
        wire["index"] = piece.candidate.index  # 2.0 leaves out a zero
    return wire


def _blocked(answer: Answer, behaviour: Behaviour) -> dict[str, Any]:
    response: dict[str, Any] = {}
    if behaviour.block is not None:
        feedback: dict[str, Any] = {"blockReason": behaviour.block}
        if behaviour.block_message is not None:
            feedback["blockReasonMessage"] = behaviour.block_message
        if behaviour.block in _BLOCKING:
            feedback["safetyRatings"] = _ratings(blocked=True)
        response["promptFeedback"] = feedback
    response["usageMetadata"] = usage_metadata(answer, behaviour, 0, 0, last=True, tools_told=True)
    return _with_ids(response, answer)


def _with_ids(response: dict[str, Any], answer: Answer) -> dict[str, Any]:
    response["modelVersion"] = answer.model.reported_name
    response["responseId"] = answer.response_id
    return response
