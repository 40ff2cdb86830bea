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
        if self._announced_bytes(scope) > self.limit_bytes:
            await self._refuse(scope, receive, send)
            return
        received_bytes = 0
        started = False

        async def count() -> Message:
            nonlocal received_bytes
            message = await receive()
            if message["type"] == "http.request":
                received_bytes += len(message.get("body", b""))
                if received_bytes > self.limit_bytes:
                    raise BodyTooLargeError(self.limit_bytes)
            return message

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, count, watch)
        except BodyTooLargeError:
            if started:
                raise
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        await error_response(BodyTooLargeError(self.limit_bytes), self.form)(scope, receive, send)

    @staticmethod
    def _announced_bytes(scope: Scope) -> int:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                return int(value)
        return 0
