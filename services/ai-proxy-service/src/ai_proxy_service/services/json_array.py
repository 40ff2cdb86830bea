"""Split a JSON array into its items while it arrives, however the bytes are cut.

Gemini answers a stream so when it is not asked for events, and so may whatever stands between.
"""

import re

# Everything that can change what a byte means: quotes, escapes, brackets.
_OUTSIDE_TEXT = re.compile(rb'["{}\[\]]')
_INSIDE_TEXT = re.compile(rb'["\\]')
_ITEM_DEPTH = 2


class JsonArrayDecoder:
    """Collects bytes and returns each item of the outermost array once it is complete."""

    def __init__(self) -> None:
        self._item = bytearray()
        self._depth = 0
        self._in_text = False
        self._skips_next = False

    def feed(self, received: bytes) -> list[bytes]:
        """Take the next bytes and return the items that they finish."""
        items: list[bytes] = []
        start, at = 0, int(self._skips_next)
        self._skips_next = self._skips_next and not received
        while found := self._next_mark(received, at):
            at = found.end()
            mark = found[0]
            if mark == b"\\":
                # The escaped byte means nothing, even if it comes with the next piece.
                self._skips_next = at == len(received)
                at += 1
            elif mark == b'"':
                self._in_text = not self._in_text
            elif mark in b"{[":
                self._depth += 1
                if self._depth == _ITEM_DEPTH:
                    start = found.start()
            else:
                self._depth -= 1
                if self._depth == _ITEM_DEPTH - 1:
                    items.append(bytes(self._item) + received[start:at])
                    self._item.clear()
        if self._depth >= _ITEM_DEPTH:
            self._item += received[start:]
        return items

    def _next_mark(self, received: bytes, at: int) -> re.Match[bytes] | None:
        marks = _INSIDE_TEXT if self._in_text else _OUTSIDE_TEXT
        return marks.search(received, at)
