"""Bytes of responses: server-sent events, the JSON array, whole bodies, enumerations as numbers."""

from typing import Any

import msgspec

Headers = list[tuple[bytes, bytes]]

_COMMON_HEADERS: Headers = [
    (b"vary", b"Origin"),
    (b"vary", b"X-Origin"),
    (b"vary", b"Referer"),
    (b"server", b"scaffolding on HTTPServer2"),
    (b"x-xss-protection", b"0"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"x-content-type-options", b"nosniff"),
]
JSON_HEADERS: Headers = [(b"content-type", b"application/json; charset=UTF-8"), *_COMMON_HEADERS]
SSE_HEADERS: Headers = [
    (b"content-type", b"text/event-stream"),
    (b"content-disposition", b"attachment"),
    *_COMMON_HEADERS,
]

# The numbers of the API description's enumerations, in its order where that gives them.
_FINISH_REASONS = (
    "FINISH_REASON_UNSPECIFIED STOP MAX_TOKENS SAFETY RECITATION OTHER LANGUAGE BLOCKLIST "
    "PROHIBITED_CONTENT SPII MALFORMED_FUNCTION_CALL IMAGE_SAFETY UNEXPECTED_TOOL_CALL "
    "TOO_MANY_TOOL_CALLS"
)
_NUMBERS: dict[str, dict[str, int]] = {
    field: {name: number for number, name in enumerate(names.split())}
    for field, names in {
        "finishReason": _FINISH_REASONS,
        "blockReason": "BLOCK_REASON_UNSPECIFIED SAFETY OTHER BLOCKLIST PROHIBITED_CONTENT "
        "IMAGE_SAFETY",
        "modality": "MODALITY_UNSPECIFIED TEXT IMAGE VIDEO AUDIO DOCUMENT",
        "category": "HARM_CATEGORY_UNSPECIFIED HARM_CATEGORY_DEROGATORY HARM_CATEGORY_TOXICITY "
        "HARM_CATEGORY_VIOLENCE HARM_CATEGORY_SEXUAL HARM_CATEGORY_MEDICAL "
        "HARM_CATEGORY_DANGEROUS HARM_CATEGORY_HARASSMENT HARM_CATEGORY_HATE_SPEECH "
        "HARM_CATEGORY_SEXUALLY_EXPLICIT HARM_CATEGORY_DANGEROUS_CONTENT "
        "HARM_CATEGORY_CIVIC_INTEGRITY",
        "probability": "HARM_PROBABILITY_UNSPECIFIED NEGLIGIBLE LOW MEDIUM HIGH",
    }.items()
}
_FREE_FORM = frozenset({"args"})  # a function's own arguments are no enumerations


def with_enum_numbers(value: Any) -> Any:
    """Return a response with its enumerations as numbers; names without a known one stay."""
    if isinstance(value, list):
        return [with_enum_numbers(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _NUMBERS[name].get(item, item)
        if name in _NUMBERS
        else item
        if name in _FREE_FORM
        else with_enum_numbers(item)
        for name, item in value.items()
    }


class Encoder:
    """Encodes one response.

    Args:
        sse: events rather than JSON.
        array: the parts of a stream without `alt=sse`.
        enum_numbers: enumerations as numbers.
    """

    def __init__(self, *, sse: bool, array: bool, enum_numbers: bool) -> None:
        self._sse = sse
        self._array = array
        self._enum_numbers = enum_numbers
        self._first = True

    @property
    def streams(self) -> bool:
        """Whether the response is a stream at all."""
        return self._sse or self._array

    @property
    def stream_headers(self) -> Headers:
        """Headers of a stream; an error before it has the same ones."""
        return SSE_HEADERS if self._sse else JSON_HEADERS

    def whole(self, body: Any) -> bytes:
        """Encode a response in one piece, pretty-printed as the service does."""
        return self._pretty(body) + b"\n"

    def refusal(self, body: Any) -> bytes:
        """Encode an error before the stream: bare even where events were asked for."""
        return b"[" + self._pretty(body) + b"\n]" if self._array else self.whole(body)

    def chunk(self, body: Any) -> bytes:
        """Encode the next piece of a stream."""
        if self._sse:
            numbered = with_enum_numbers(body) if self._enum_numbers else body
            return b"data: " + msgspec.json.encode(numbered) + b"\r\n\r\n"
        opening = b"[" if self._first else b"\n,\r\n"
        self._first = False
        return opening + self._pretty(body)

    def late_error(self, body: Any, *, as_event: bool) -> bytes:
        """Encode an error within a stream: bare as recorded, or as an event as reported."""
        return self.chunk(body) if as_event or not self._sse else self._pretty(body) + b"\n"

    def garbage(self) -> bytes:
        """Return something that cannot be read as a chunk."""
        return b'data: {"candidates": [{"content"\r\n\r\n' if self._sse else b'\n,\r\n{"cand'

    def end(self) -> bytes:
        """Return what closes a stream."""
        if self._sse:
            return b""
        return b"[\n]" if self._first else b"\n]"

    def _pretty(self, body: Any) -> bytes:
        numbered = with_enum_numbers(body) if self._enum_numbers else body
        return msgspec.json.format(msgspec.json.encode(numbered), indent=2)
