"""JSON of a hundred thousand levels, anywhere in a body, is a plain refusal of the request.

Every operation of both services that takes a body: as the whole of it, as each of its members,
and in the proxy's case at each place of bodies that it would serve. With `SCHEMA_EXAMPLES`, in
further shapes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from credits.client import app_of
from support.document_fuzz import IS_LONG, Document, operations_of
from support.hostile_json import Raw, encode, replaced_anywhere
from support.proxy_app import proxy_app
from support.stack import ADMIN_KEY, CLIENT_KEY, SERVICE_KEY, Stack
from support.valid_bodies import CHATS, COMPLETIONS, EMBEDDINGS

LEVELS = 100_000
LIST = Raw("[" * LEVELS + "]" * LEVELS)
OBJECT = Raw('{"a":' * LEVELS + "1" + "}" * LEVELS)
# Nothing closes them: a decoder must have given up before it could know.
OPEN = Raw("[" * LEVELS)
SHAPES = {"lists": LIST, "objects": OBJECT, "open lists": OPEN} if IS_LONG else {"lists": LIST}
PLACES: dict[str, tuple[dict[str, Any], ...]] = {
    "/v1/chat/completions": CHATS,
    "/v1/completions": COMPLETIONS,
    "/v1/embeddings": EMBEDDINGS,
    **({"/v1/quote": CHATS} if IS_LONG else {}),
}
NOWHERE = {"simulator": "http://127.0.0.1:1", "ledger": "http://127.0.0.1:1"}
DOCUMENTS: dict[str, Document] = {
    "proxy": proxy_app(NOWHERE, SERVICE_KEY, Path()).openapi(),
    "credits": app_of("sqlite+aiosqlite://").openapi(),
}
BODIES = [
    (service, path, method)
    for service, document in DOCUMENTS.items()
    for path, method in operations_of(document)
    if "requestBody" in document["paths"][path][method]
]


def schema_of(document: Document, path: str, method: str) -> dict[str, Any]:
    content = document["paths"][path][method]["requestBody"]["content"]
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    schema: dict[str, Any] = document["components"]["schemas"][name]
    return schema


def assert_refused(answer: httpx.Response, sent: object) -> None:
    """It is the client's fault, said in the service's form."""
    assert answer.status_code in {400, 422}, (answer.text, str(sent)[:200])
    told = answer.json()
    if "error" in told:
        assert set(told["error"]) == {"message", "type", "param", "code"}
    else:
        assert told["status"] == answer.status_code
    assert len(answer.content) < 2000


def bodies_of(schema: dict[str, Any], deep: Raw) -> Iterator[bytes]:
    """Write bodies that are deep: the whole, one member of an object, one of those it needs."""
    yield encode(deep)
    yield encode([deep])
    yield encode({"unknown": deep})
    for name in schema["properties"]:
        yield encode({name: deep})
        yield encode({**dict.fromkeys(schema.get("required", ()), "1"), name: deep})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("service", "path", "method"), BODIES)
def test_a_deep_body_is_refused(
    stack: Stack, service: str, path: str, method: str, shape: str
) -> None:
    url, key = {
        "proxy": (stack.proxy.url, CLIENT_KEY),
        "credits": (stack.ledger.url, ADMIN_KEY),
    }[service]
    client = stack.http(url, key)
    headers = {"content-type": "application/json", "idempotency-key": "deep"}

    for body in bodies_of(schema_of(DOCUMENTS[service], path, method), SHAPES[shape]):
        answer = client.request(method, path, content=body, headers=headers)
        assert_refused(answer, body[:100])

    assert client.get("/health").status_code == 200


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("path", "skeletons"), PLACES.items(), ids=PLACES)
def test_depth_at_any_place_of_a_body_that_would_be_served_is_refused(
    stack: Stack, path: str, skeletons: tuple[dict[str, Any], ...], shape: str
) -> None:
    client = stack.http(stack.proxy.url, CLIENT_KEY)

    for skeleton in skeletons:
        for place, body in replaced_anywhere(skeleton, SHAPES[shape]):
            assert_refused(client.post(path, content=encode(body)), place)

    assert client.get("/health").status_code == 200
