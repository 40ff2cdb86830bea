"""The stream that Google's retired SDK received, cut into its chunks.

The SDK's own reader takes quadratic time, looks one chunk ahead, swallows errors in mid-stream,
and fails on chunks without parts and on blocked prompts.
"""

import re

from ai_proxy_service.core.gemini import GeminiError, GeminiUnreachableError

_IN_STRING = re.compile(rb'["\\]')
_IN_OBJECT = re.compile(rb'["{}]')
_BETWEEN_OBJECTS = re.compile(rb"[{\]]")


class ArrayReader:
    """Cuts a JSON array of objects, however its bytes arrive, into its objects.

    An object that stands outside the array is found as well: errors may. Takes linear time.
    """

    def __init__(self) -> None:
        self._object = bytearray()
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._began = False
        self._closed = False

    def feed(self, received: bytes) -> list[bytes]:
        """Take more bytes, at least one, and return the objects that are complete now.

        Raises:
            GeminiError: the bytes are no array.
        """
        self._check_beginning(received)
        found: list[bytes] = []
        begin = 0 if self._depth else len(received)
        position, self._escaped = int(self._escaped), False
        while mark := self._marks().search(received, position):
            position = mark.end()
            match mark[0]:
                case b'"':
                    self._in_string = not self._in_string
                case b"\\":
                    position += 1
                    self._escaped = position > len(received)
                case b"]":
                    self._closed = True
                case b"{":
                    begin = begin if self._depth else mark.start()
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if not self._depth:
                        found.append(bytes(self._object) + received[begin:position])
                        self._object.clear()
                        begin = len(received)
        self._object += received[begin:]
        return found

    def finish(self) -> None:
        """Take note that there are no more bytes.

        Raises:
            GeminiUnreachableError: the array is not complete.
        """
        if self._depth or not self._closed:
            raise GeminiUnreachableError("the stream broke off")

    def _marks(self) -> re.Pattern[bytes]:
        """Return what can end the state that the reader is in."""
        if self._in_string:
            return _IN_STRING
        return _IN_OBJECT if self._depth else _BETWEEN_OBJECTS

    def _check_beginning(self, received: bytes) -> None:
        text = b"" if self._began else received.lstrip()
        if text and not text.startswith(b"["):
            raise GeminiError(502, "MALFORMED", f"unreadable stream: {text[:100]!r}")
        self._began = self._began or bool(text)
