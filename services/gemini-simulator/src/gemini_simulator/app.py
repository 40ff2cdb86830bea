"""Put the simulator together."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router

from gemini_simulator.api import GeminiApi
from gemini_simulator.control import Control
from gemini_simulator.settings import Settings
from gemini_simulator.state import Memory, Recorder


async def _health(_request: Request) -> Response:
    return Response(b'{"status":"ok"}', media_type="application/json")


def create_app(settings: Settings) -> Router:
    """Return the ASGI app; it keeps what it remembers to itself.

    A bare router, as Starlette's own middleware would hide the connection that faults close.
    """
    memory = Memory(recorder=Recorder(settings.simulator_recorded_requests))
    routes: list[BaseRoute] = [Route("/health", _health), *Control(memory).routes()]
    for version in ("v1", "v1beta"):
        api = GeminiApi(settings, memory, version)
        routes.append(Route(f"/{version}/models", api, methods=["GET"]))
        routes.append(Route(f"/{version}/models/{{model}}", api, methods=["GET", "POST"]))
    return Router(routes)
