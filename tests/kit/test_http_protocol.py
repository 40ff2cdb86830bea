"""What one connection may cost: too much of it is refused, in the surface's own form."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from service_kit.http_limits import HEADERS_MAX, PIPELINED_MAX, URL_BYTES_MAX
from service_kit.server import SECURITY_HEADERS
from support.kit_app import AUTHORIZED, KEY
from support.kit_process import kit_process
from support.processes import ServiceProcess
from support.raw_connection import RawAnswer, raw_connection

HEADER_BYTES = 4096
HEAD = f"Host: kit\r\nAuthorization: Bearer {KEY}\r\n".encode()
# Long enough for a busy machine to send a whole request, and short enough to be waited for.
SECONDS = "1"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with kit_process(
        tmp_path_factory.mktemp("kit"),
        MAX_HEADER_BYTES=str(HEADER_BYTES),
        REQUEST_HEADER_TIMEOUT_SECONDS=SECONDS,
        REQUEST_BODY_TIMEOUT_SECONDS=SECONDS,
        SEND_TIMEOUT_SECONDS=SECONDS,
        RATE_LIMIT_ENABLED="false",
    ) as process:
        yield process


@pytest.fixture(autouse=True)
def _still_serves(service: ServiceProcess) -> Iterator[None]:
    """Whatever a test sends, the service goes on, and nothing unforeseen is in its log."""
    yield
    with raw_connection(service.url) as connection:
        connection.send(b"GET /v1/whoami HTTP/1.1\r\nConnection: close\r\n" + HEAD + b"\r\n")
        assert connection.answer().json() == {"name": "tester"}
    assert not [line for line in service.lines if "Traceback" in line or '"error"' in line]


def ask(service: ServiceProcess, request: bytes) -> RawAnswer:
    """Send bytes, and return the answer after which the service closes the connection."""
    with raw_connection(service.url) as connection:
        connection.send(request)
        return connection.answer()


def assert_refused(answer: RawAnswer, status: int, code: str) -> None:
    """The answer is the app's own error form, has an id, and ends the connection."""
    body = answer.json()
    assert (answer.status, body["code"]) == (status, code)
    assert answer.headers["x-request-id"] == body["request_id"]
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b"X-Long: " + b"a" * HEADER_BYTES + b"\r\n\r\n", id="one that is long"),
        pytest.param(b"X-Long: " + b"a" * 10 * HEADER_BYTES, id="one that does not end"),
        pytest.param(b"X-Some: a\r\n" * (HEADERS_MAX + 1) + b"\r\n", id="many"),
        pytest.param(b"a" * 10 * HEADER_BYTES, id="a name that does not end"),
    ],
)
def test_headers_that_are_too_large_are_431(service: ServiceProcess, headers: bytes) -> None:
    answer = ask(service, b"GET /v1/whoami HTTP/1.1\r\n" + HEAD + headers)
    assert_refused(answer, 431, "headers_too_large")


def test_headers_within_the_limits_are_served(service: ServiceProcess) -> None:
    many = b"".join(b"X-%d: abcdefgh\r\n" % number for number in range(HEADERS_MAX - 5))
    answer = ask(
        service, b"GET /v1/whoami HTTP/1.1\r\nConnection: close\r\n" + HEAD + many + b"\r\n"
    )
    assert answer.json() == {"name": "tester"}


def test_a_long_url_is_414(service: ServiceProcess) -> None:
    path = b"/v1/items/" + b"a" * URL_BYTES_MAX
    answer = ask(service, b"GET " + path + b" HTTP/1.1\r\n" + HEAD + b"\r\n")
    assert_refused(answer, 414, "url_too_long")


@pytest.mark.parametrize(
    "host", [b"", b"Host: a\r\nHost: b\r\n", b"Host: a\r\nhost: a\r\n"], ids=["none", "two", "same"]
)
def test_a_request_has_one_host(service: ServiceProcess, host: bytes) -> None:
    answer = ask(service, b"GET /health HTTP/1.1\r\n" + host + b"\r\n")
    assert_refused(answer, 400, "invalid_http_request")


def test_what_is_no_http_is_400(service: ServiceProcess) -> None:
    assert_refused(ask(service, b"\x16\x03\x01\x02\x00\x01\r\n\r\n"), 400, "invalid_http_request")


def test_headers_that_do_not_arrive_are_408(service: ServiceProcess) -> None:
    assert_refused(ask(service, b"GET /v1/whoami HTTP/1.1\r\nHost: k"), 408, "request_timeout")


def test_a_byte_now_and_then_does_not_prolong_the_time(service: ServiceProcess) -> None:
    """The attack by the name of Slowloris."""
    with raw_connection(service.url) as connection:
        connection.send(b"GET /v1/whoami HTTP/1.1\r\n")
        connection.socket.settimeout(0.05)
        answer = b""
        while not answer:
            connection.send(b"X-A: b\r\n")
            try:
                answer = connection.socket.recv(1000)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("length", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
def test_a_body_that_does_not_arrive_is_408(service: ServiceProcess, length: bytes) -> None:
    request = b"POST /v1/echo HTTP/1.1\r\n" + HEAD + length + b"\r\n\r\n"
    assert_refused(ask(service, request), 408, "request_timeout")


def test_a_second_request_has_its_own_time(service: ServiceProcess) -> None:
    """A connection that is kept is no slow request, and what comes late on it is refused."""
    request = b"GET /v1/whoami HTTP/1.1\r\n" + HEAD + b"\r\n"
    with raw_connection(service.url) as connection:
        connection.send(request)
        assert connection.socket.recv(100).startswith(b"HTTP/1.1 200 ")
        connection.send(request[:30])
        assert b"HTTP/1.1 408 " in connection.rest()


def test_chunk_marks_without_end_are_refused(service: ServiceProcess) -> None:
    request = b"POST /v1/echo HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    # More than is read at once: what comes in one piece with the headers is not counted.
    extension = b"1;" + b"a" * 4_000_000
    assert_refused(ask(service, request + extension), 431, "headers_too_large")


def test_trailers_are_no_headers(service: ServiceProcess) -> None:
    """What comes after a body is nobody's key (RFC 9110, 6.5.1)."""
    request = (
        b"POST /v1/echo HTTP/1.1\r\nHost: kit\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: Bearer "
        + KEY.encode()
        + b"\r\n\r\n"
    )
    assert ask(service, request).status == 401


def test_requests_sent_ahead_are_answered_in_order(service: ServiceProcess) -> None:
    asked = [b"Connection: close\r\n" if last else b"" for last in [False] * PIPELINED_MAX + [True]]
    requests = [b"GET /v1/whoami HTTP/1.1\r\n" + HEAD + header + b"\r\n" for header in asked]
    with raw_connection(service.url) as connection:
        connection.send(b"".join(requests))
        assert connection.rest().count(b"HTTP/1.1 200 ") == len(requests)


def test_requests_without_end_are_not_kept(service: ServiceProcess) -> None:
    """Each answer would let as many in again as are read at once: one connection took it all."""
    request = b"GET /v1/whoami HTTP/1.1\r\n" + HEAD + b"\r\n"
    with raw_connection(service.url) as connection:
        connection.send(2000 * request)
        answers = connection.rest()
    assert PIPELINED_MAX < answers.count(b"HTTP/1.1 200 ") < 2000
    assert answers.count(b"HTTP/1.1 400 ") == 1
    assert b'"too_many_pipelined"' in answers.rpartition(b"\r\n\r\n")[2]


def test_a_client_that_reads_nothing_is_cut_off(service: ServiceProcess) -> None:
    body = b'{"a": "' + b"b" * 8_000_000 + b'"}'
    with raw_connection(service.url) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.send(
            b"POST /v1/echo HTTP/1.1\r\n" + HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        service.wait_for_log("client_too_slow")


def test_an_upgrade_is_not_taken_and_ends_the_connection(service: ServiceProcess) -> None:
    answer = ask(
        service,
        b"GET /v1/whoami HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + HEAD + b"\r\n"
        b"GET /v1/items/smuggled HTTP/1.1\r\n" + HEAD + b"\r\n",
    )
    assert answer.json() == {"name": "tester"}
    assert answer.headers["connection"] == "close"


def test_nonsense_after_a_request_does_not_reach_into_its_answer(service: ServiceProcess) -> None:
    """A stream under way is ended, not mixed with the text of a refusal."""
    with raw_connection(service.url) as connection:
        connection.send(b"GET /v1/stream HTTP/1.1\r\n" + HEAD + b"\r\n")
        received = b""
        while b"first" not in received:
            received += connection.socket.recv(1000)
        connection.send(b"\x00nonsense\r\n\r\n")
        assert b"HTTP/1.1 400" not in received + connection.rest()


def test_every_answer_has_the_security_headers(service: ServiceProcess) -> None:
    refused = ask(service, b"nonsense\r\n\r\n").headers
    with httpx.Client(base_url=service.url, timeout=30, headers=AUTHORIZED) as client:
        answers = [client.get("/health"), client.get("/v1/teapot"), client.get("/nowhere")]
    for headers in (refused, *(answer.headers for answer in answers)):
        assert {name: headers[name] for name, _ in SECURITY_HEADERS} == dict(SECURITY_HEADERS)
