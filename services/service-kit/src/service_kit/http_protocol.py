"""uvicorn's HTTP protocol, with bounds: uvicorn itself waits for ever and takes any header.

A reverse proxy has such bounds as well; the services must not depend on there being one.
"""

from asyncio import AbstractEventLoop, Transport
from http import HTTPStatus
from typing import Any, NoReturn, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service_kit.deadline import Deadline
from service_kit.errors import ErrorForm, ServiceError
from service_kit.http_limits import (
    HEADERS_MAX,
    PIPELINED_MAX,
    URL_BYTES_MAX,
    HttpLimits,
    headers_too_large,
    host_missing,
    invalid_request,
    too_many_ahead,
    too_slow,
    url_too_long,
)
from service_kit.logging import get_logger
from service_kit.request_id import HEADER, new_request_id

_log = get_logger(__name__)

# How long a connection that has just been taken is waited for when the server ends.
FIRST_REQUEST_SECONDS = 2


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        limits: its bounds.
        form: how a refusal is written.
        config: uvicorn's.
        server_state: uvicorn's.
        app_state: what the lifespan handed over.
        _loop: the event loop.
    """

    def __init__(
        self,
        limits: HttpLimits,
        form: ErrorForm,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._form = form
        self._refusal: ServiceError | None = None
        self._refused = False
        # A refusal that waits until what was asked before it is answered.
        self._held_back: ServiceError | None = None
        # The server ends: the next request is the last one.
        self._is_ending = False
        # Whether it is the body that is arriving, or the headers of a request, if any.
        self._in_body = False
        # Since the last byte of a body: headers, trailers, the marks of chunks.
        self._unused_bytes = 0
        self._arriving = Deadline(self.loop)
        self._sending = Deadline(self.loop)

    # What the transport tells.

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Wait for the first request no longer than for a further one."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget all that was waited for."""
        self._unset_keepalive_if_required()
        self._arriving.end()
        self._sending.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is too much."""
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._unused_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No other protocol is spoken here: the request is served, and was the last one.
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._refuse(self._refusal or invalid_request())
            return
        if self._unused_bytes > self._limits.header_bytes:
            self._refuse(headers_too_large(self._limits.header_bytes))
        elif not self._arriving.is_running and (self._in_body or self._unused_bytes):
            self._wait_for_rest()

    def pause_writing(self) -> None:
        """Wait for a slow client, but not for ever."""
        super().pause_writing()
        self._wait_until_taken()

    def resume_writing(self) -> None:
        """Go on, as the client has read."""
        if not self.transport.is_closing():
            self._sending.end()
        super().resume_writing()

    # What the parser tells; what is raised here ends in `data_received`.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._in_body = False
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the URL."""
        super().on_url(url)
        if len(self.url) > URL_BYTES_MAX:
            self._refuse_by_raising(url_too_long())

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those after a body are none of the request (RFC 9110, 6.5.1)."""
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start serving, if the headers are acceptable."""
        self._check_head()
        self._in_body = True
        self._arrived()
        super().on_headers_complete()
        if self._is_ending:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._unused_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        super().on_message_complete()
        # From here on bytes belong to the next one.
        self._in_body = False
        self._arrived()

    # Ends.

    def shutdown(self) -> None:
        """Close the connection as the server ends, unless a request is under way or about to be.

        uvicorn closes one on which nothing was asked yet, or only a part: its client can't tell
        that from a request that was served, and must not send it again.
        """
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        is_idle = cycle is None or cycle.response_complete
        if is_idle and self._arriving.is_running:
            self._is_ending = True
        elif cycle is None and not self.transport.is_closing():
            self._is_ending = True
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                FIRST_REQUEST_SECONDS, self.timeout_keep_alive_handler
            )
        else:
            super().shutdown()

    def on_response_complete(self) -> None:
        """Go on with the next request, or see to it that the last answer is taken."""
        is_last = not self.pipeline
        super().on_response_complete()
        if self.transport.is_closing():
            self._wait_until_taken()
        elif is_last and self._held_back is not None:
            self._end(self._written(self._held_back))

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that nobody uses, also one whose last answer is never read."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _check_head(self) -> None:
        # uvicorn stops reading while requests wait, but what it has read may be thousands of
        # them, and each answer lets it read as many again.
        if len(self.pipeline) >= PIPELINED_MAX:
            self._refuse_by_raising(too_many_ahead())
        head_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if head_bytes > self._limits.header_bytes or len(self.headers) > HEADERS_MAX:
            self._refuse_by_raising(headers_too_large(self._limits.header_bytes))
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            self._refuse_by_raising(host_missing())

    def _refuse_by_raising(self, refusal: ServiceError) -> NoReturn:
        self._refusal = refusal
        raise refusal

    def _arrived(self) -> None:
        """Note that a part of the request is whole."""
        self._unused_bytes = 0
        self._arriving.end()

    def _wait_for_rest(self) -> None:
        """Give the part that is arriving its time."""
        part, seconds = (
            ("body", self._limits.body_seconds)
            if self._in_body
            else ("headers", self._limits.header_seconds)
        )
        self._arriving.begin(seconds, self._give_up_request, part, seconds)

    def _give_up_request(self, part: str, seconds: float) -> None:
        if self.flow.read_paused:
            # It is we who keep it waiting: its bytes are not taken before the app asks for them.
            self._wait_for_rest()
        else:
            self._refuse(too_slow(part, seconds))

    def _wait_until_taken(self) -> None:
        if not self._sending.is_running:
            self._sending.begin(self._limits.send_seconds, self._give_up_client)

    def _give_up_client(self) -> None:
        _log.info("client_too_slow", client=self.client[0] if self.client else None)
        self.transport.abort()

    def _refuse(self, refusal: ServiceError) -> None:
        """Answer by the refusal, unless an answer is under way, and close the connection.

        Answers keep the order of their requests: one that was whole before is answered first.
        """
        self._refused = True
        self._arriving.end()
        _log.info(
            "request_refused",
            status=int(refusal.status),
            code=refusal.code,
            client=self.client[0] if self.client else None,
        )
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        running = None if cycle is None or cycle.response_complete else cycle
        if self._in_body and self.pipeline:
            # The newest has not begun, and is the wrong one.
            self.pipeline.popleft()
            self._held_back = refusal
        elif running is None:
            # What goes on arriving may be the body of a request that has its answer.
            self._end(b"" if self._in_body else self._written(refusal))
        elif self._in_body or running.response_started:
            # The app learns that its client is gone, and may write no more.
            running.disconnected = True
            running.message_event.set()
            self._end(b"" if running.response_started else self._written(refusal))
        else:
            self._held_back = refusal

    def _end(self, last_words: bytes) -> None:
        if last_words:
            self.transport.write(last_words)
        self.transport.close()
        self._wait_until_taken()

    def _written(self, refusal: ServiceError) -> bytes:
        status = HTTPStatus(refusal.status)
        request_id = new_request_id()
        body = self._form.render(refusal, request_id)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", self._form.content_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (HEADER.encode(), request_id.encode()),
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, status.phrase.encode(), lines, body)
