"""A body over the limit is refused, however it is announced, before it fills the memory."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from starlette.types import Message, Receive, Scope, Send

from service_kit.body_limit import BodyLimitMiddleware, BodyTooLargeError
from support.kit_app import AUTHORIZED, PlainForm, StartApp

LIMIT_BYTES = 1024


def _json_of(size_bytes: int) -> bytes:
    return b'{"a":"' + b"x" * (size_bytes - 8) + b'"}'


def _pieces(size_bytes: int) -> Iterator[bytes]:
    body = _json_of(size_bytes)
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


@pytest.mark.parametrize("path", ["/v1/echo", "/v1/framework-echo"])
def test_a_body_of_exactly_the_limit_is_read(start_app: StartApp, path: str) -> None:
    client = start_app(max_body_bytes=LIMIT_BYTES)
    headers = {**AUTHORIZED, "content-type": "application/json"}

    announced = client.post(path, headers=headers, content=_json_of(LIMIT_BYTES))
    chunked = client.post(path, headers=headers, content=_pieces(LIMIT_BYTES))

    assert (announced.status_code, chunked.status_code) == (200, 200)
    assert announced.json() == chunked.json() == msgspec.json.decode(_json_of(LIMIT_BYTES))


@pytest.mark.parametrize("path", ["/v1/echo", "/v1/framework-echo"])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["announced", "chunked"])
def test_a_body_of_one_byte_more_is_refused(
    start_app: StartApp, path: str, is_chunked: bool
) -> None:
    """Also where the framework would answer 400 to what is raised while it reads."""
    content = _pieces(LIMIT_BYTES + 1) if is_chunked else _json_of(LIMIT_BYTES + 1)

    response = start_app(max_body_bytes=LIMIT_BYTES).post(
        path, headers={**AUTHORIZED, "content-type": "application/json"}, content=content
    )

    assert response.status_code == 413
    assert response.json()["code"] == "request_too_large"
    assert "1024 bytes" in response.json()["message"]


def test_the_connection_serves_the_next_request_after_a_refusal(start_app: StartApp) -> None:
    client = start_app(max_body_bytes=LIMIT_BYTES)
    client.post("/v1/echo", headers=AUTHORIZED, content=_json_of(100 * LIMIT_BYTES))

    assert client.post("/v1/echo", headers=AUTHORIZED, content=b"{}").json() == {}


def test_an_announced_giant_is_refused_before_it_is_sent(start_app: StartApp) -> None:
    """The client announces a gigabyte, sends nothing of it, and has its answer."""
    base = start_app(max_body_bytes=LIMIT_BYTES).base_url

    async def status_line() -> bytes:
        reader, writer = await asyncio.open_connection(base.host, base.port)
        writer.write(b"POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line

    assert b" 413 " in asyncio.run(status_line())


class _Connection:
    """Raw ASGI messages: a server that tells more, or other, than the headers announced."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)
        self.received = 0
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        self.received += 1
        return {
            "type": "http.request",
            "body": self._chunks.pop(0),
            "more_body": bool(self._chunks),
        }

    async def send(self, message: Message) -> None:
        self.sent.append(message)


def _scope(*headers: tuple[bytes, bytes]) -> Scope:
    return {"type": "http", "method": "POST", "path": "/", "headers": list(headers)}


async def _read_all(_scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def test_a_content_length_that_lies_does_not_help() -> None:
    connection = _Connection(b"x" * 600, b"x" * 600, b"never read")
    limited = BodyLimitMiddleware(_read_all, limit_bytes=LIMIT_BYTES, form=PlainForm())

    await limited(_scope((b"content-length", b"2")), connection.receive, connection.send)

    assert connection.sent[0]["status"] == 413
    assert connection.received == 2


async def test_an_answer_that_has_begun_is_broken_off_not_rewritten() -> None:
    async def answer_first(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()

    connection = _Connection(b"x" * (LIMIT_BYTES + 1))
    limited = BodyLimitMiddleware(answer_first, limit_bytes=LIMIT_BYTES, form=PlainForm())

    with pytest.raises(BodyTooLargeError):
        await limited(_scope(), connection.receive, connection.send)

    assert [message["status"] for message in connection.sent] == [200]


def test_the_limit_holds_before_authentication(start_app: StartApp) -> None:
    response = start_app(max_body_bytes=LIMIT_BYTES).post(
        "/v1/echo", content=_json_of(LIMIT_BYTES + 1)
    )

    assert response.status_code == 413
