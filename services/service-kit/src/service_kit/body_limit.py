"""A limit on the size of request bodies, kept while they arrive."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service_kit.errors import ErrorForm, ServiceError, error_response


class BodyTooLargeError(ServiceError):
    """The body is larger than the service accepts."""

    status = 413
    code = "request_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than {limit_bytes} bytes.")


class BodyLimitMiddleware:
    """Refuses bodies over a limit, announced or not, before they fill the memory."""

    def __init__(self, app: ASGIApp, *, limit_bytes: int, form: ErrorForm) -> None:
        self.app = app
        self.limit_bytes = limit_bytes
        self.form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, self.limit_bytes)
        if _announced_bytes(scope) > self.limit_bytes:
            exchange.exceeded = True
        else:
            try:
                await self.app(scope, exchange.receive, exchange.send)
            except BodyTooLargeError:
                if exchange.started:
                    raise
        if exchange.exceeded and not exchange.started:
            refusal = error_response(BodyTooLargeError(self.limit_bytes), self.form)
            await refusal(scope, receive, send)


class _Exchange:
    """One request and its answer: how much of the body came, and whether the answer began."""

    def __init__(self, receive: Receive, send: Send, limit_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._limit_bytes = limit_bytes
        self._received_bytes = 0
        self.exceeded = False
        self.started = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._received_bytes += len(message.get("body", b""))
            if self._received_bytes > self._limit_bytes:
                self.exceeded = True
                raise BodyTooLargeError(self._limit_bytes)
        return message

    async def send(self, message: Message) -> None:
        # Frameworks answer what is raised while they read a body with a 400 of their own.
        if self.exceeded and not self.started:
            return
        self.started = True
        await self._send(message)


def _announced_bytes(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
