"""What an answer rests on, as OpenAI's `url_citation` annotations.

Gemini counts bytes of UTF-8 (https://ai.google.dev/api/generate-content#Segment), OpenAI
characters; and programs that are shown in the text are not in Gemini's count.
"""

from bisect import bisect_left
from itertools import accumulate
from typing import Any

from ai_proxy_service.core.gemini import GroundingChunk, GroundingSource, Segment
from ai_proxy_service.translation.answer import CandidateState


def citations(state: CandidateState) -> list[dict[str, Any]]:
    """Return an annotation for each stretch of the answer that has a source with an address."""
    found: list[dict[str, Any]] = []
    sources: list[GroundingChunk] = []
    text: _Text | None = None
    for grounding in state.groundings:
        sources = grounding.grounding_chunks or sources
        for support in grounding.grounding_supports or ():
            source = _source(sources, support.grounding_chunk_indices or [])
            if source is None or support.segment is None:
                continue
            text = text or _Text(state)
            start, end = text.characters(support.segment)
            annotation = {
                "type": "url_citation",
                "url_citation": {
                    "start_index": start,
                    "end_index": end,
                    "url": source.uri,
                    "title": source.title or source.uri,
                },
            }
            # Some streams tell all that came before again.
            if annotation not in found:
                found.append(annotation)
    return found


def _source(sources: list[GroundingChunk], numbers: list[int]) -> GroundingSource | None:
    for number in numbers:
        if 0 <= number < len(sources):
            chunk = sources[number]
            source = chunk.web or chunk.maps or chunk.retrieved_context
            if source is not None and source.uri:
                return source
    return None


class _Text:
    """The content, and where Gemini's bytes are in it."""

    def __init__(self, state: CandidateState) -> None:
        self._content = "".join(state.contents)
        own = [text for number, text in enumerate(state.contents) if number not in state.inserted]
        plain = "".join(own)
        # Ends of characters in bytes; plain ASCII needs no table.
        self._ends = (
            None if plain.isascii() else list(accumulate(len(char.encode()) for char in plain))
        )
        self._plain_chars = len(plain)
        self._blocks = _blocks(state)

    def characters(self, segment: Segment) -> tuple[int, int]:
        """Return a segment's place in the content, in characters."""
        # What begins right where a block was put in begins after it, and what ends there, before.
        start = self._at(segment.start_index, begins=True)
        end = max(start, self._at(segment.end_index, begins=False))
        if segment.text and self._content[start:end] != segment.text:
            # Offsets of some answers are those of one of their parts.
            place = self._content.find(segment.text)
            if place >= 0:
                return place, place + len(segment.text)
        return start, end

    def _at(self, offset_bytes: int, *, begins: bool) -> int:
        if self._ends is None:
            plain = min(offset_bytes, self._plain_chars)
        else:
            plain = bisect_left(self._ends, offset_bytes + 1) if offset_bytes else 0
        last = plain if begins else plain - 1
        return plain + sum(length for before, length in self._blocks if before <= last)


def _blocks(state: CandidateState) -> list[tuple[int, int]]:
    """Return how many plain characters come before each shown program, and its length."""
    blocks: list[tuple[int, int]] = []
    plain = 0
    for number, text in enumerate(state.contents):
        if number in state.inserted:
            blocks.append((plain, len(text)))
        else:
            plain += len(text)
    return blocks
