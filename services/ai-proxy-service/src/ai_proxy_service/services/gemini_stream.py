"""Gemini's streams as chunks, whatever form they have: events, or one JSON array.

Decided by the first byte, not by the content type: errors come under `text/event-stream` as
plain JSON, and what stands between may ignore `alt=sse`.
"""

import msgspec

from ai_proxy_service.core.gemini import GeminiError, GenerateContentResponse
from ai_proxy_service.services.gemini_wire import decode_answer, decode_error
from ai_proxy_service.services.json_array import JsonArrayDecoder
from ai_proxy_service.services.sse import SseDecoder

_BAD_GATEWAY = 502


class StreamDecoder:
    """Decodes the bytes of one stream, however they are cut.

    Attributes:
        failure: an error in the stream; what came before it has been returned.
    """

    def __init__(self) -> None:
        self.failure: GeminiError | None = None
        self._events = SseDecoder()
        self._array: JsonArrayDecoder | None = None
        self._begun = False

    def feed(self, received: bytes) -> list[GenerateContentResponse]:
        """Take the next bytes and return the chunks that they finish."""
        if not self._begun and received.strip():
            self._begun = True
            if received.lstrip().startswith(b"["):
                self._array = JsonArrayDecoder()
        decoder = self._array or self._events
        return self._decode(decoder.feed(received))

    def finish(self) -> list[GenerateContentResponse]:
        """Return what the end of the stream finishes."""
        if self._array is not None:
            return []
        chunks = self._decode(self._events.finish())
        stray = self._events.stray
        if self.failure is None and stray.strip():
            chunks += self._decode_stray(stray)
        return chunks

    def _decode(self, events: list[bytes]) -> list[GenerateContentResponse]:
        """Decode what came before an error."""
        chunks: list[GenerateContentResponse] = []
        for event in events:
            if self.failure is not None:
                break
            try:
                chunks.append(decode_answer(event))
            except GeminiError as error:
                self.failure = error
        return chunks

    def _decode_stray(self, stray: bytes) -> list[GenerateContentResponse]:
        """Read what came outside of any event: an error in mid-stream, or a whole answer."""
        try:
            msgspec.json.decode(stray, type=dict[str, msgspec.Raw])
            return [decode_answer(stray)]
        except GeminiError as error:
            self.failure = error
        except (msgspec.DecodeError, UnicodeDecodeError):
            found = decode_error(0, stray)
            self.failure = GeminiError(
                found.status or _BAD_GATEWAY, found.reason, found.message, found.details
            )
        return []
