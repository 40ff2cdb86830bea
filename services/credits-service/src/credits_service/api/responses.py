"""Answers that are read, not booked."""

import msgspec
from starlette.responses import Response

_encode = msgspec.json.Encoder().encode


def json_response(body: msgspec.Struct) -> Response:
    """Write a body as JSON."""
    return Response(_encode(body), headers={"content-type": "application/json"})
