"""Entry point of the `gemini-simulator` command."""

from starlette.routing import Router

from gemini_simulator.app import create_app
from gemini_simulator.settings import Settings
from service_kit.logging import configure_logging
from service_kit.server import serve
from service_kit.settings import load_settings

# Streams that a test holds back would otherwise keep the program from ending.
_SHUTDOWN_SECONDS = 1


def build() -> Router:
    """Return the app for the server, configured from the environment."""
    return create_app(load_settings(Settings))


def main() -> None:
    """Serve until a signal ends it."""
    settings = load_settings(Settings)
    configure_logging(
        service="gemini-simulator", level=settings.log_level, log_format=settings.log_format
    )
    serve(
        "gemini_simulator.main:build",
        host=settings.host,
        port=settings.port,
        graceful_shutdown_seconds=_SHUTDOWN_SECONDS,
    )
