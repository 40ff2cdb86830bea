"""One JSON object a line (or a readable console form), request id included, secrets masked.

Standard library loggers (uvicorn's, SQLAlchemy's) go through the same processors, so that a
log collector meets a single form. Our own lines are written without the standard library's
records, as there is one for each request.
"""

import contextlib
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import msgspec
import structlog

from service_kit.request_id import current_request_id

LogFormat = Literal["json", "console"]
# They write lines for each call, which our own lines repeat with more to say.
CHATTY_LOGGERS = ("httpx", "alembic")

# Last line of defence; nothing should log a key in the first place.
# Ours begin with sk-, Google's API keys with AIza, secrets of webhooks with whsec_.
_SECRET = re.compile(r"(?i)(?<![a-z0-9])(bearer\s+|sk-|AIza|whsec_)[A-Za-z0-9_\-.~+/]{6,}=*")
_MASK = r"\1…"
# What each of them begins with: nearly every line has none, which this tells at once.
_SECRET_MARKS = ("bearer", "sk-", "aiza", "whsec_")


def mask_secrets(text: str) -> str:
    """Replace what looks like an API key or bearer token by its public beginning."""
    lower = text.lower()
    if not any(mark in lower for mark in _SECRET_MARKS):
        return text
    return _SECRET.sub(_MASK, text)


_encode = msgspec.json.Encoder(enc_hook=str).encode


def _to_json(value: Any, **_options: Any) -> str:
    return _encode(value).decode()


class _Lines:
    """Where the lines of one of our loggers go: what the libraries' lines go to as well."""

    __slots__ = ("_handler", "name")

    def __init__(self, name: str, handler: "logging.StreamHandler[Any]") -> None:
        self.name = name
        self._handler = handler

    def write(self, line: str) -> None:
        """Write one entry; one that can't be written must not fail what it tells of."""
        handler = self._handler
        with contextlib.suppress(OSError, ValueError):
            handler.acquire()
            try:
                handler.stream.write(line + handler.terminator)
                handler.stream.flush()
            finally:
                handler.release()

    debug = info = warning = error = critical = write


def _add_request_id(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    if request_id := current_request_id():
        event.setdefault("request_id", request_id)
    return event


def configure_logging(*, service: str, level: str, log_format: LogFormat) -> None:
    """Send every log record of this process to standard output in one form.

    Args:
        service: name put on each line.
        level: a `logging` level name, for example ``INFO``.
        log_format: ``json`` for collectors, ``console`` for people.
    """

    def add_service(
        _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    shared: list[structlog.typing.Processor] = [
        _add_request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        add_service,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )

    def masked(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        # The line as a whole, so that nothing slips past, however deep it stands.
        return mask_secrets(str(renderer(logger, method, event)))

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, masked],
        )
    )
    structlog.configure(
        processors=[*shared, masked],
        logger_factory=lambda name: _Lines(name, handler),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    # The access line is ours: uvicorn's has no request id of its own and shows query strings.
    logging.getLogger("uvicorn.access").disabled = True
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return the structured logger of a module."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger
