"""One JSON object a line (or a readable console form), request id included, secrets masked.

What a line may hold is decided in `log_text`.

Standard library loggers (uvicorn's, SQLAlchemy's) go through the same processors, so that a
log collector meets a single form. Our own lines are written without the standard library's
records, as there is one for each request.
"""

import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import msgspec
import structlog

from service_kit.log_output import Lines, LogOutput
from service_kit.log_text import (
    LINE_CHARACTERS_MAX,
    bounded,
    escaped_event,
    escaped_json,
    mask_secrets,
    squeezed,
)
from service_kit.request_id import current_request_id
from service_kit.spans import current_span

LogFormat = Literal["json", "console"]
# They write lines for each call, which our own lines repeat with more to say.
CHATTY_LOGGERS = ("httpx", "alembic")
# Its warnings quote what a server has sent; we tell of the failures that they come from.
QUOTING_LOGGERS = ("urllib3",)
# At DEBUG, libraries write what they are given: statements with their parameters, headers,
# bodies. These don't, and no other may.
DEBUGGED_LOGGERS = ("uvicorn", "asyncio")


_encode = msgspec.json.Encoder(enc_hook=str).encode


def _render_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    try:
        line = _encode(event).decode()
    except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 can't say
        line = json.dumps(event, default=str)
    return escaped_json(line)


def _console_renderer() -> structlog.typing.Processor:
    render = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )

    def render_console(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        return render(logger, method, escaped_event(event))

    return render_console


def _add_request_id(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    if request_id := current_request_id():
        event.setdefault("request_id", request_id)
    return event


def add_trace_id(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the id of the trace that a line is written in, if there is one (a processor)."""
    if trace_id := current_span().trace_id:
        event.setdefault("trace_id", trace_id)
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
    render = _render_json if log_format == "json" else _console_renderer()

    def masked(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        event = bounded(event)
        line = str(render(logger, method, event))
        if len(line) > LINE_CHARACTERS_MAX:
            line = str(render(logger, method, squeezed(event)))
        # The line as a whole, so that nothing slips past, however deep it stands.
        return mask_secrets(line)

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, masked],
        )
    )
    output = LogOutput(handler)
    structlog.configure(
        processors=[add_trace_id, *shared, masked],
        logger_factory=lambda name: Lines(name, output),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.getLevelNamesMapping()[level], logging.INFO))
    logging.captureWarnings(capture=True)
    # The access line is ours: uvicorn's has no request id of its own and shows query strings.
    logging.getLogger("uvicorn.access").disabled = True
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    for name in QUOTING_LOGGERS:
        logging.getLogger(name).setLevel(max(root.level, logging.ERROR))
    for name in DEBUGGED_LOGGERS:
        logging.getLogger(name).setLevel(level)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return the structured logger of a module."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger
