"""One JSON object a line (or a readable console form), request id included, secrets masked.

Standard library loggers (uvicorn's, SQLAlchemy's) go through the same formatter, so that
a log collector meets a single form.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import msgspec
import structlog

LogFormat = Literal["json", "console"]
# They write lines for each call, which our own lines repeat with more to say.
CHATTY_LOGGERS = ("httpx", "alembic")

# Last line of defence; nothing should log a key in the first place.
# Ours begin with sk-, Google's API keys with AIza.
_SECRET = re.compile(r"(?i)(?<![a-z0-9])(bearer\s+|sk-|AIza)[A-Za-z0-9_\-.~+/]{6,}=*")
_MASK = r"\1…"


def mask_secrets(text: str) -> str:
    """Replace what looks like an API key or bearer token by its public beginning."""
    return _SECRET.sub(_MASK, text)


def _to_json(value: Any, **_options: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


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
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.stdlib.PositionalArgumentsFormatter(),
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

    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, masked],
        )
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


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the structured logger of a module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
