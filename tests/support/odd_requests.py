"""Requests that HTTP parsers disagree about, each with what has to come of it.

RFC 9112 throughout: sections 2.2 (line ends), 3.2 (targets, Host), 5 (headers), 6 (lengths),
7.1 (chunks), 11.2 (smuggling).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

MAX_BODY_BYTES = 65_536
CHUNKED = "Transfer-Encoding: chunked"
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TLS_CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(192))


class Paid(NamedTuple):
    """A request that costs something, to be written in odd ways.

    Attributes:
        path: where it goes.
        key: the bearer key.
        body: JSON.
    """

    path: str
    key: str
    body: bytes

    def written(
        self,
        *headers: str | bytes,
        body: bytes | None = None,
        line: bytes = b"",
        host: bytes = b"Host: a.test\r\n",
    ) -> bytes:
        """Write it with headers as they are given, or those of a plain client if none is."""
        content = self.body if body is None else body
        usual = () if headers else (f"Content-Length: {len(content)}",)
        lines = [f"Authorization: Bearer {self.key}", "Content-Type: application/json"]
        encoded = [
            each if isinstance(each, bytes) else each.encode()
            for each in (*lines, *usual, *headers)
        ]
        first = line or f"POST {self.path} HTTP/1.1".encode()
        return (
            first
            + b"\r\n"
            + host
            + b"".join(each + b"\r\n" for each in encoded)
            + b"\r\n"
            + content
        )

    @property
    def length(self) -> str:
        """The header that tells its body's length."""
        return f"Content-Length: {len(self.body)}"

    def chunks(self, *, size: bytes = b"", mark: bytes = b"\r\n", extension: bytes = b"") -> bytes:
        """Return its body as one chunk and the last one."""
        told = size or b"%x" % len(self.body)
        return told + extension + b"\r\n" + self.body + mark + b"0\r\n\r\n"


Odd = Callable[[Paid], bytes]

# Refused before anything is served, and nothing behind them is: their end is not sure.
REFUSED: Mapping[str, Odd] = {
    "bare line feeds": lambda paid: paid.written().replace(b"\r\n", b"\n"),
    "a bare carriage return": lambda paid: paid.written(paid.length, "X-A: b\rX-C: d"),
    "NUL in a header": lambda paid: paid.written(paid.length, b"X-A: b\x00c"),
    "NUL in a name": lambda paid: paid.written(paid.length, b"X\x00A: b"),
    "a space in a name": lambda paid: paid.written(paid.length, "X A: b"),
    "no colon": lambda paid: paid.written(paid.length, "X-A"),
    "no name": lambda paid: paid.written(paid.length, ": b"),
    "two lengths": lambda paid: paid.written(paid.length, "Content-Length: 3"),
    "two lengths in one": lambda paid: paid.written(f"{paid.length}, 3"),
    "a negative length": lambda paid: paid.written("Content-Length: -1"),
    "a length with a sign": lambda paid: paid.written(f"Content-Length: +{len(paid.body)}"),
    "a length in hexadecimal": lambda paid: paid.written("Content-Length: 0x10"),
    "a length without number": lambda paid: paid.written("Content-Length: "),
    "a length beyond 64 bits": lambda paid: paid.written(f"Content-Length: {2**64 + 5}"),
    "length, then chunks": lambda paid: paid.written(paid.length, CHUNKED, body=paid.chunks()),
    "chunks, then length": lambda paid: paid.written(CHUNKED, paid.length, body=paid.chunks()),
    "a space before the colon": lambda paid: paid.written(
        "Transfer-Encoding : chunked", body=paid.chunks()
    ),
    "an unknown coding": lambda paid: paid.written(
        "Transfer-Encoding: xchunked", body=paid.chunks()
    ),
    "chunked is not last": lambda paid: paid.written(
        "Transfer-Encoding: chunked, identity", body=paid.chunks()
    ),
    "identity": lambda paid: paid.written("Transfer-Encoding: identity", body=paid.chunks()),
    "a vertical tab before chunked": lambda paid: paid.written(
        b"Transfer-Encoding:\x0bchunked", body=paid.chunks()
    ),
    "an unknown coding and a length": lambda paid: paid.written(
        paid.length, "Transfer-Encoding: gzip"
    ),
    "a negative chunk": lambda paid: paid.written(CHUNKED, body=paid.chunks(size=b"-5")),
    "a chunk beyond 64 bits": lambda paid: paid.written(CHUNKED, body=paid.chunks(size=b"f" * 17)),
    "a chunk without size": lambda paid: paid.written(CHUNKED, body=b"\r\n" + paid.body),
    "a size that is no number": lambda paid: paid.written(CHUNKED, body=paid.chunks(size=b"0x5")),
    "a chunk that is longer": lambda paid: paid.written(CHUNKED, body=paid.chunks(size=b"3")),
    "a chunk that ends otherwise": lambda paid: paid.written(CHUNKED, body=paid.chunks(mark=b"xx")),
    "a chunk that ends in a line feed": lambda paid: paid.written(
        CHUNKED, body=paid.chunks(mark=b"\n")
    ),
    "no Host": lambda paid: paid.written(host=b""),
    "two Hosts": lambda paid: paid.written(host=b"Host: a.test\r\nHost: b.test\r\n"),
    "HTTP/0.9": lambda _paid: b"GET /health\r\n",
    "HTTP/2": lambda _paid: HTTP2_PREFACE,
    "HTTP/9.9": lambda paid: paid.written(line=f"POST {paid.path} HTTP/9.9".encode()),
    "another protocol": lambda paid: paid.written(line=f"POST {paid.path} ICE/1.0".encode()),
    "TLS": lambda _paid: TLS_CLIENT_HELLO,
    "no method": lambda paid: paid.written(line=f" {paid.path} HTTP/1.1".encode()),
    "an unknown method": lambda paid: paid.written(line=f"BREW {paid.path} HTTP/1.1".encode()),
    "a space in the target": lambda paid: paid.written(line=b"GET /a b HTTP/1.1"),
    "NUL in the target": lambda paid: paid.written(line=b"GET /a\x00b HTTP/1.1"),
    "no target": lambda paid: paid.written(line=b"POST  HTTP/1.1"),
}
# Served, and what is behind them as well: exactly two requests were seen.
SERVED: Mapping[str, Odd] = {
    "as clients write it": lambda paid: paid.written(),
    "in a chunk": lambda paid: paid.written(CHUNKED, body=paid.chunks()),
    "a chunk with an extension": lambda paid: paid.written(
        CHUNKED, body=paid.chunks(extension=b";a=b")
    ),
    "a coding in capitals": lambda paid: paid.written(
        "tRANSFER-eNCODING: CHUNKED", body=paid.chunks()
    ),
    "leading zeros": lambda paid: paid.written(f"Content-Length: 000{len(paid.body)}"),
    "an absolute target": lambda paid: paid.written(
        line=f"POST http://b.test{paid.path} HTTP/1.1".encode()
    ),
    "a header that is no UTF-8": lambda paid: paid.written(paid.length, b"X-A: \xff\xc3\x28"),
    "empty lines before": lambda paid: b"\r\n\r\n" + paid.written(),
}
# Answered by the status. What is behind them may be served as well, if their end was seen.
ANSWERED: Mapping[str, tuple[int, Odd]] = {
    "a long URL": (414, lambda _paid: b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a large header": (431, lambda paid: paid.written(paid.length, "X-A: " + "b" * 70_000)),
    "a long name": (431, lambda paid: paid.written(paid.length, "X" * 70_000 + ": b")),
    "many headers": (431, lambda paid: paid.written(paid.length, *["X-A: b"] * 1000)),
    "many trailers": (
        431,
        lambda paid: paid.written(
            CHUNKED, body=paid.chunks().removesuffix(b"\r\n") + b"X-A: b\r\n" * 200_000 + b"\r\n"
        ),
    ),
    "a body that is announced as too large": (
        413,
        lambda paid: paid.written(f"Content-Length: {MAX_BODY_BYTES + 1}", body=b""),
    ),
    "a body of 63 bits": (413, lambda paid: paid.written(f"Content-Length: {2**63 - 1}", body=b"")),
    "a chunk of 63 bits": (408, lambda paid: paid.written(CHUNKED, body=b"7fffffffffffffff\r\n")),
    "an end that never comes": (408, lambda paid: paid.written("Content-Length: 1000")),
    "a chunk that never ends": (408, lambda paid: paid.written(CHUNKED, body=b"fff\r\n{")),
    "an asterisk": (404, lambda paid: paid.written(line=b"OPTIONS * HTTP/1.1")),
    "an authority": (400, lambda paid: paid.written(line=b"CONNECT a.test:443 HTTP/1.1")),
    "a bad escape in the target": (404, lambda paid: paid.written(line=b"GET /%zz%1 HTTP/1.1")),
    "a target that is no UTF-8": (404, lambda paid: paid.written(line=b"GET /%ff%c3( HTTP/1.1")),
    "an escaped NUL": (404, lambda paid: paid.written(line=b"GET /a%00b HTTP/1.1")),
}
