"""What tracing costs a request: off, with a client's trace passed on, on, and with nobody there.

    python -m benchmarks.tracing [requests]

CPU time of the whole process, the sending thread's included, over a request that does nothing but
what the proxy does for a trace: its own span, those of authorising, of Gemini's call and of the
charge, and those of two calls of the credits service.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service_kit.spans import current_span
from service_kit.trace_middleware import TraceMiddleware, describe
from service_kit.tracing import client_span, close_tracing, configure_tracing, span, traced

REQUESTS = 20_000
WARM_UP = 500
TRACEPARENT = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
HEADERS = [(b"host", b"proxy"), (b"authorization", b"Bearer sk-1"), (b"x-request-id", b"r")] * 3
FACTS = {"model": "gemini-2.5-flash", "ended": "complete", "prompt_tokens": 9, "cost_usd": "0.001"}
NOWHERE = "http://127.0.0.1:9"
COLLECTOR = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


async def _call(path: str) -> None:
    with client_span("POST", path, segments=3) as call:
        current_span().headers()
        call.answered(200)


@traced("authorise")
async def _authorise() -> None:
    await _call("/api/v1/holds")


@traced("charge")
async def _charge() -> None:
    await _call("/api/v1/bill")


async def _traced_work(_scope: Scope, _receive: Receive, _send: Send) -> None:
    await _authorise()
    upstream = span("generate_content gemini-2.5-flash", kind="client")
    if upstream.recording:
        upstream.set({"gen_ai.request.model": "gemini-2.5-flash", "gen_ai.request.stream": True})
    upstream.event("gen_ai.first_chunk")
    upstream.end()
    await _charge()
    request = current_span()
    if request.recording:
        describe(request, "POST", "/v1/chat/completions", 200, FACTS)


async def _bare_work(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """As many coroutines as above, and nothing of tracing."""

    async def call() -> None:
        """Stands for a call."""

    async def step() -> None:
        await call()

    await step()
    await step()


async def _receive() -> Message:
    return {"type": "http.disconnect"}


async def _send(_message: Message) -> None:
    """Nobody reads it."""


async def _micros(app: ASGIApp, headers: list[tuple[bytes, bytes]], requests: int) -> float:
    scope = {"type": "http", "path": "/v1/chat/completions", "scheme": "http", "headers": headers}
    for _ in range(WARM_UP):
        await app(scope, _receive, _send)
    start = time.process_time()
    for _ in range(requests):
        await app(scope, _receive, _send)
    return (time.process_time() - start) / requests * 1e6


async def _measured(requests: int, collector_port: int) -> Mapping[str, float]:
    traced_app, with_trace = TraceMiddleware(_traced_work), [*HEADERS, TRACEPARENT]
    found = {
        "without tracing in the code": await _micros(_bare_work, HEADERS, requests),
        "off": await _micros(traced_app, HEADERS, requests),
        "off, a client's trace passed on": await _micros(traced_app, with_trace, requests),
    }
    for name, endpoint in (
        ("on", f"http://127.0.0.1:{collector_port}"),
        ("on, the collector is dead", NOWHERE),
    ):
        configure_tracing(service="benchmark", endpoint=endpoint)
        found[name] = await _micros(traced_app, with_trace, requests)
        await close_tracing()
    os.environ["OTEL_TRACES_SAMPLER"] = "always_off"
    configure_tracing(service="benchmark", endpoint=NOWHERE)
    found["on, this one not sampled"] = await _micros(traced_app, HEADERS, requests)
    await close_tracing()
    return found


def main() -> None:
    """Measure, and print a table."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS
    with subprocess.Popen(  # noqa: S603 - the program above
        [sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True
    ) as collector:
        assert collector.stdout is not None
        try:
            found = asyncio.run(_measured(requests, int(collector.stdout.readline())))
        finally:
            collector.terminate()
    print("| tracing | CPU µs a request |\n|---|---|")
    for name, micros in found.items():
        print(f"| {name} | {micros:.1f} |")


if __name__ == "__main__":
    main()
