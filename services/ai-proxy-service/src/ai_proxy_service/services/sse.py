"""Split the bytes of a server-sent event stream into its data, however they arrive.

Gemini ends lines with CRLF, puts each event on one `data:` line, and reports an error in
mid-stream as a bare JSON object between the events. Only LF and CRLF end a line: text may
contain other characters that Unicode calls line ends.
"""

import msgspec

# An error object is some twenty lines long.
STRAY_LINES_MAX = 1000
_FIELDS = (b":", b"event:", b"id:", b"retry:")


class SseDecoder:
    """Collects bytes and returns the data of each finished event.

    Attributes:
        stray: lines outside any event, such as an error object, joined; only so many are kept.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._data: list[bytes] = []
        self._stray: list[bytes] = []

    @property
    def stray(self) -> bytes:
        """Return what came outside the events so far."""
        return b"\n".join(self._stray)

    def feed(self, received: bytes) -> list[bytes]:
        """Take the next bytes and return the data of the events that they finish."""
        if b"\n" not in received:
            if received:
                self._pieces.append(received)
            return []
        self._pieces.append(received)
        lines = b"".join(self._pieces).split(b"\n")
        self._pieces = [lines.pop()]
        return self._events(lines)

    def finish(self) -> list[bytes]:
        """Return the data of an event that the end of the stream finishes."""
        last = b"".join(self._pieces)
        self._pieces = []
        return self._events([last, b""])

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        for raw in lines:
            line = raw[:-1] if raw.endswith(b"\r") else raw
            if line.startswith(b"data:"):
                if self._data and _is_whole(self._data):
                    # Some servers leave out the blank line; Gemini's events have one line each.
                    events.append(b"\n".join(self._data))
                    self._data = []
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data = []
            elif len(self._stray) < STRAY_LINES_MAX and not line.startswith(_FIELDS):
                self._stray.append(line)
        return events


def _is_whole(lines: list[bytes]) -> bool:
    """Tell whether lines of data are a JSON object that needs no more."""
    if not lines[-1].endswith(b"}"):
        return False
    try:
        msgspec.json.decode(b"\n".join(lines), type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
