"""A Gemini that repeats, in whatever it answers, all that it was sent: the prompt and the key.

Only what is to be passed on as an answer has neither.

What goes wrong is chosen by a word in the prompt, `order=NAME`; the names are in `ORDERS`.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_STATUSES = {
    "bad_request": (400, "INVALID_ARGUMENT"),
    "wrong_key": (400, "INVALID_ARGUMENT"),
    "unauthenticated": (401, "UNAUTHENTICATED"),
    "forbidden": (403, "PERMISSION_DENIED"),
    "not_found": (404, "NOT_FOUND"),
    "exhausted": (429, "RESOURCE_EXHAUSTED"),
    "internal": (500, "INTERNAL"),
    "overloaded": (503, "UNAVAILABLE"),
    "teapot": (418, "I_AM_A_TEAPOT"),
}


def _error(order: str, echo: str) -> bytes:
    status, name = _STATUSES[order]
    reason = "API_KEY_INVALID" if order == "wrong_key" else echo
    details = [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": echo},
        {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": echo, "description": echo}],
        },
    ]
    error = {"code": status, "message": f"Refused: {echo}", "status": name, "details": details}
    return _http(f"{status} {name}", json.dumps({"error": error}).encode())


def _http(status: str, body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


_CHUNK = json.dumps(
    {"candidates": [{"content": {"parts": [{"text": "half of an"}], "role": "model"}}]}
).encode()
_BROKEN: dict[str, Callable[[str], bytes]] = {
    "page": lambda echo: _http("502 Bad Gateway", f"<html>{echo}</html>".encode(), "text/html"),
    "no_json": lambda echo: _http("200 OK", f'{{"candidates": "{echo}'.encode()),
    "wrong_shape": lambda echo: _http("200 OK", json.dumps({"candidates": echo}).encode()),
    "no_utf8": lambda echo: _http("200 OK", b'{"text": "\xff' + echo.encode() + b'"}'),
    "status_of_its_own": lambda echo: _http(
        "400 Bad Request",
        json.dumps({"error": {"code": 400, "message": echo, "status": echo}}).encode(),
    ),
    "error_in_200": lambda echo: _http(
        "200 OK", json.dumps({"error": {"code": 500, "message": echo, "status": echo}}).encode()
    ),
    "broken_event": lambda echo: _http(
        "200 OK",
        b"data: " + _CHUNK + b"\r\n\r\ndata: {" + echo.encode() + b"\r\n\r\n",
        "text/event-stream",
    ),
    "stray_error": lambda echo: _http(
        "200 OK",
        b"data: " + _CHUNK + b'\r\n\r\n{"error": {"message": "' + echo.encode() + b'"}}\n',
        "text/event-stream",
    ),
    "no_http": lambda echo: f"{echo} 200 OK\r\n\r\n".encode(),
    "bad_header": lambda echo: f"HTTP/1.1 200 OK\r\n {echo} : \x01\r\n\r\n".encode(),
    "bad_length": lambda echo: f"HTTP/1.1 200 OK\r\nContent-Length: {echo}\r\n\r\n".encode(),
    "cut": lambda _echo: _http("200 OK", _CHUNK)[:-20],
    "reset": lambda _echo: b"",
}
ORDERS = (*_STATUSES, *_BROKEN)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        key = self.headers.get("x-goog-api-key", "no key")
        found = re.search(r"order=(\w+)", body)
        order = found[1] if found else "internal"
        text = re.sub(r'[\\"\n]+', " ", body)
        echo = f"{text} ?key={key}"
        self.wfile.write(_error(order, echo) if order in _STATUSES else _BROKEN[order](echo))
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing: what is asked is the product's to show, or not."""


@contextmanager
def hostile_gemini() -> Iterator[str]:
    """Run it, and yield its base URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
