"""Bytes that are no proper HTTP, and what a server may say to them."""

import re
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from hypothesis import strategies as st

from support.raw_connection import RawConnection, raw_connection

HOST = b"Host: a.test\r\n"
# Asked behind whatever is sent: where that was whole it is served, and the connection closed.
LAST = b"GET /health HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [ -~]*")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")
_FIRST_FINAL = 200
_RESET_AT_ONCE = struct.pack("ii", 1, 0)


class Answer(NamedTuple):
    """An answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class CutShortError(AssertionError):
    """The last answer ends too early."""


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    """Write a request; of its headers only `Host` is added."""
    lines = "".join(f"{header}\r\n" for header in headers).encode()
    return f"{line} HTTP/1.1\r\n".encode() + HOST + lines + b"\r\n" + body


def posted(path: str, key: str, body: bytes, *headers: str) -> bytes:
    """Write a request with a body of JSON as a client would."""
    return request(
        f"POST {path}",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
        body=body,
    )


def answers_in(stream: bytes) -> list[Answer]:
    """Read all that came, which must be whole answers and nothing else (RFC 9112).

    Raises:
        CutShortError: it ends within an answer.
        AssertionError: this is no HTTP.
    """
    answers: list[Answer] = []
    while stream:
        head, end, stream = stream.partition(b"\r\n\r\n")
        if not end:
            raise CutShortError(head)
        line, *lines = head.split(b"\r\n")
        status_line = _STATUS_LINE.fullmatch(line)
        assert status_line, head
        headers = dict(map(_header, lines))
        assert len(headers) == len(lines), head
        status = int(status_line[1])
        body = b""
        if status >= _FIRST_FINAL:
            body, stream = _body(headers, stream)
        answers.append(Answer(status, headers, body))
    return answers


def _header(line: bytes) -> tuple[str, str]:
    match = _HEADER.fullmatch(line)
    assert match, line
    return match[1].decode().lower(), match[2].decode("latin-1")


def _body(headers: dict[str, str], stream: bytes) -> tuple[bytes, bytes]:
    if "transfer-encoding" in headers:
        assert headers["transfer-encoding"] == "chunked"
        assert "content-length" not in headers
        return _chunks(stream)
    length = int(headers["content-length"])
    if len(stream) < length:
        raise CutShortError(stream)
    return stream[:length], stream[length:]


def _chunks(stream: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, end, stream = stream.partition(b"\r\n")
        if not end or len(stream) < int(line, 16) + 2:
            raise CutShortError(body)
        assert _CHUNK_SIZE.fullmatch(line), line
        size = int(line, 16)
        body, mark, stream = body + stream[:size], stream[size : size + 2], stream[size + 2 :]
        assert mark == b"\r\n"
        if not size:
            return body, stream


def exchange_all(url: str, messages: Sequence[bytes], *, then: bytes = LAST) -> list[bytes]:
    """Send each on a connection of its own, all before any answer is read.

    Args:
        url: the service.
        messages: what is sent.
        then: sent behind each; if empty, our side of the connection is closed.

    Returns:
        what came on each until the service closed the connection.
    """
    with ExitStack() as exits:
        connections = [exits.enter_context(raw_connection(url)) for _ in messages]
        for connection, message in zip(connections, messages, strict=True):
            connection.send(message + then)
            if not then:
                _close_our_side(connection)
        return [connection.rest() for connection in connections]


def exchange(url: str, message: bytes, *, then: bytes = LAST) -> list[Answer]:
    """Send one and return the answers."""
    return answers_in(exchange_all(url, [message], then=then)[0])


def reset_all(url: str, messages: Sequence[bytes]) -> None:
    """Send each on a connection of its own, and break all of these off."""
    with ExitStack() as exits:
        for message in messages:
            connection = exits.enter_context(raw_connection(url))
            connection.send(message)
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_ONCE)


def _close_our_side(connection: RawConnection) -> None:
    try:
        connection.socket.shutdown(socket.SHUT_WR)
    except OSError:
        # The service has closed all of it already.
        return


def prefixes(message: bytes) -> Iterator[bytes]:
    """Return the message cut off at each byte."""
    return (message[:end] for end in range(1, len(message)))


# What parsers disagree about.
_TOKENS = (
    *(b"\n", b"\r", b"\r\n", b"\r\n\r\n", b"\x00", b"\x7f", b"\xff\xfe", b"\xc3\x28", b" ", b"\t"),
    *(b":", b"%", b"%zz", b"%00", b"%2e%2e%2f", b"?", b"#", b"\\", b"//", b"*", b"\x0b", b"\x80"),
    *(b"Content-Length: 3\r\n", b"Content-Length: -1\r\n", b"Content-Length: +5\r\n"),
    *(b"Content-Length: 99999999999999999999\r\n", b"Content-Length: 0\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding : chunked\r\n"),
    *(b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding: chunked, identity\r\n"),
    *(b"Transfer-Encoding:\x0bchunked\r\n", b"TE: trailers\r\n", b"Connection: close\r\n"),
    *(b"Connection: keep-alive, Upgrade\r\n", b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n"),
    *(b"Expect: 100-continue\r\n", b"Expect: 200-ok\r\n", b"Host: b.test\r\n", b" folded\r\n"),
    *(b"0\r\n\r\n", b"5\r\nhello\r\n", b"-5\r\n", b"ffffffffffffffff\r\n", b"5;a=b\r\n"),
    *(b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"GET / HTTP/1.1\r\n", b"x" * 300, b"1" * 30),
)


@st.composite
def mangled(draw: st.DrawFn, messages: Sequence[bytes]) -> bytes:
    """Return a strategy for proper requests to which one to four accidents happened."""
    message = draw(st.sampled_from(messages))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(message)))
        length = draw(st.sampled_from((0, 1, 2, 7, 40)))
        head, piece, tail = (
            message[:start],
            message[start : start + length],
            message[start + length :],
        )
        how = draw(st.sampled_from(("insert", "insert", "replace", "drop", "repeat", "flip")))
        if how == "insert":
            # Headers are inserted where headers are.
            line = message.find(b"\r\n", start) + 2 if draw(st.booleans()) else start
            message = message[:line] + draw(st.sampled_from(_TOKENS)) + message[line:]
        elif how == "replace":
            message = head + draw(st.sampled_from(_TOKENS)) + tail
        elif how == "drop":
            message = head + tail
        elif how == "repeat":
            message = head + piece * 3 + tail
        else:
            flipped = bytes(byte ^ (1 << draw(st.integers(0, 7))) for byte in piece[:2])
            message = head + flipped + piece[2:] + tail
    return message
