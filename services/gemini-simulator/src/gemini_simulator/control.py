"""Endpoints for tests: order faults, release tokens, see what was received."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gemini_simulator.behaviour import make_behaviour
from gemini_simulator.errors import ApiError
from gemini_simulator.state import Gate, Memory, QueuedFault, RecordedRequest

_DEFAULT_TIMEOUT_SECONDS = 10.0


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


class Control:
    """The control endpoints over one memory."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/control/faults", self.faults, methods=["GET", "POST", "DELETE"]),
            Route("/control/requests", self.requests, methods=["GET", "DELETE"]),
            Route("/control/gates/{name}", self.gate, methods=["GET", "POST", "DELETE"]),
        ]

    async def faults(self, request: Request) -> Response:
        """Queue faults (one object or a list), list what is left, or clear."""
        queue = self._memory.faults.queue
        if request.method == "DELETE":
            queue.clear()
        elif request.method == "POST":
            try:
                given = msgspec.json.decode(await request.body())
                faults = [_read_fault(entry) for entry in _as_list(given)]
            except (ApiError, msgspec.MsgspecError) as error:
                return _json({"error": str(error)}, 400)
            queue.extend(faults)
        return _json({"faults": queue})

    async def requests(self, request: Request) -> Response:
        """Return the recorded requests; with conditions in the query, wait for them first.

        `count` requests recorded, all `ended`, at least `tokens` produced by one of them;
        408 when that did not happen within `timeout` seconds.
        """
        recorder = self._memory.recorder
        if request.method == "DELETE":
            recorder.requests.clear()
            return _json({"requests": []})
        query = request.query_params
        timeout_seconds = float(query.get("timeout", _DEFAULT_TIMEOUT_SECONDS))
        held = await recorder.changes.wait_until(
            lambda: _holds(list(recorder.requests), query), timeout_seconds
        )
        body = {
            "open_streams": recorder.open_streams,
            "open_requests": recorder.open_requests,
            "requests": list(recorder.requests),
        }
        return _json(body, 200 if held else 408)

    async def gate(self, request: Request) -> Response:
        """Release tokens (POST), open for good (DELETE), or tell the gate's state (GET).

        GET with `waiting=n` waits until as many streams stand at the gate.
        """
        gate = self._memory.gate(request.path_params["name"])
        held = True
        if request.method == "DELETE":
            gate.open()
        elif request.method == "POST":
            body = await request.body()
            given = msgspec.json.decode(body) if body else {}
            gate.release(int(given.get("tokens", request.query_params.get("tokens", 1))))
        elif "waiting" in request.query_params:
            held = await _wait_for_streams(gate, request.query_params)
        state = {"open": gate.is_open, "released": gate.released, "waiting": gate.waiting}
        return _json(state, 200 if held else 408)


async def _wait_for_streams(gate: Gate, query: Mapping[str, str]) -> bool:
    wanted = int(query["waiting"])
    timeout_seconds = float(query.get("timeout", _DEFAULT_TIMEOUT_SECONDS))
    return await gate.changes.wait_until(
        lambda: gate.waiting >= wanted and gate.released == 0, timeout_seconds
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _read_fault(given: Any) -> QueuedFault:
    if not isinstance(given, dict):
        raise msgspec.ValidationError("a fault is an object")
    orders = dict(given)
    frame = {name: orders.pop(name) for name in ("times", "model", "method") if name in orders}
    make_behaviour(orders)  # refuses what does not exist
    return msgspec.convert({"orders": orders, **frame}, QueuedFault)


def _holds(requests: list[RecordedRequest], query: Mapping[str, str]) -> bool:
    return (
        len(requests) >= int(query.get("count", 0))
        and (query.get("ended") != "true" or all(entry.state != "open" for entry in requests))
        and max((entry.tokens for entry in requests), default=0) >= int(query.get("tokens", 0))
    )
