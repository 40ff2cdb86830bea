"""Only an accepted key opens a door, and only the exact public paths need none."""

import asyncio
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from service_kit.auth import NOBODY, BearerAuthMiddleware, presented_key
from service_kit.keys import KeyRing, NamedKey, Principal
from support.kit_app import AUTHORIZED, KEY, PlainForm, StartApp

RING = KeyRing([(NamedKey("tester", KEY), frozenset())])


async def _authenticate(key: str) -> Principal | None:
    return RING.find(key)


def test_the_right_key_opens_and_names_its_principal(start_app: StartApp) -> None:
    response = start_app().get("/v1/whoami", headers=AUTHORIZED)

    assert response.json() == {"name": "tester"}


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
def test_the_schemes_case_and_further_spaces_do_not_matter(
    start_app: StartApp, scheme: str
) -> None:
    response = start_app().get("/v1/whoami", headers={"authorization": f"{scheme} {KEY}"})

    assert response.status_code == 200


def test_absent_malformed_and_wrong_keys_get_the_same_answer(start_app: StartApp) -> None:
    client = start_app()
    attempts: list[dict[str, str]] = [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": f"Bearer {KEY.upper()}"},
        {"authorization": "Bearer s\u00e9same"},
        {"x-api-key": KEY},
    ]

    answers = [
        client.get(
            "/v1/whoami", headers=httpx.Headers({**attempt, "x-request-id": "same"}, "latin-1")
        )
        for attempt in attempts
    ]

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json()["code"] == "invalid_api_key"


def test_a_bare_key_counts_only_in_headers_that_the_service_named(start_app: StartApp) -> None:
    client = start_app(key_headers=(b"x-api-key", b"api-key"))

    statuses = [
        client.get("/v1/whoami", headers=headers).status_code
        for headers in (
            {"x-api-key": KEY},
            {"api-key": KEY},
            {"api-key": "sk-not-the-right-one-0"},
            {"x-goog-api-key": KEY},
        )
    ]

    assert statuses == [200, 200, 401, 401]


def test_a_bearer_key_wins_over_a_bare_one(start_app: StartApp) -> None:
    client = start_app(key_headers=(b"api-key",))

    response = client.get(
        "/v1/whoami", headers={"authorization": "Bearer sk-wrong-wrong-wrong", "api-key": KEY}
    )

    assert response.status_code == 401


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/health?verbose=1"])
def test_public_paths_need_no_key(start_app: StartApp, path: str) -> None:
    assert start_app().get(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "//health",
        "/health/",
        "/health//",
        "/Health",
        "/HEALTH",
        "/health/../v1/whoami",
        "/health/v1/whoami",
        "/healthy",
        "/%68ealth",
        "/health%2f",
        "/health%2F..%2Fv1%2Fwhoami",
        "/health%00",
        "/health%20",
        "/health;v1",
        "/health%3Fx",
        "/./health",
        "/v1/whoami%2f..%2f..%2fhealth",
        "/v1/whoami/../../health",
    ],
)
async def test_only_the_exact_path_is_public(start_app: StartApp, path: str) -> None:
    """The path goes over the wire as it is written: HTTP clients would tidy it first."""
    base = start_app().base_url
    reader, writer = await asyncio.open_connection(base.host, base.port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: {base.host}\r\nconnection: close\r\n\r\n".encode())

    status_line = await reader.readline()

    writer.close()
    await writer.wait_closed()
    assert status_line.split()[1] == b"401"


def _scope(path: str, raw_path: bytes | None, scope_type: str = "http") -> dict[str, Any]:
    return {
        "type": scope_type,
        "method": "GET",
        "path": path,
        "raw_path": raw_path,
        "headers": [],
        "query_string": b"",
        "extensions": {"websocket.http.response": {}},
    }


async def _statuses(scope: Scope) -> list[int]:
    """Return the statuses that were sent; 200 is the app's own."""
    statuses: list[int] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if "status" in message:
            statuses.append(message["status"])

    guarded = BearerAuthMiddleware(
        app, authenticate=_authenticate, exempt_paths=("/health",), form=PlainForm()
    )
    await guarded(scope, receive, send)
    return statuses


async def test_a_server_that_decodes_the_path_does_not_make_it_public() -> None:
    assert await _statuses(_scope("/health", b"/%68ealth")) == [401]


async def test_a_server_that_tells_no_raw_path_is_believed() -> None:
    assert await _statuses(_scope("/health", None)) == [200]


async def test_a_raw_path_with_its_query_is_the_same_path() -> None:
    assert await _statuses(_scope("/health", b"/health?verbose=1")) == [200]


async def test_who_needs_no_key_is_nobody_whatever_he_shows() -> None:
    """So that whatever asks for a right refuses him, instead of finding no principal at all."""
    seen: list[Principal] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["state"]["principal"])

    async def silent(*_arguments: Any) -> Any:
        raise AssertionError

    guarded = BearerAuthMiddleware(
        app, authenticate=_authenticate, exempt_paths=("/health",), form=PlainForm()
    )
    scope = _scope("/health", b"/health")
    scope["headers"] = [(b"authorization", f"Bearer {KEY}".encode())]
    await guarded(scope, silent, silent)

    assert seen == [NOBODY]
    assert NOBODY.scopes == frozenset()


async def test_a_websocket_needs_a_key_as_well() -> None:
    assert await _statuses(_scope("/v1/realtime", b"/v1/realtime", "websocket")) == [401]


def test_no_key_at_all_is_an_empty_string() -> None:
    assert presented_key({"headers": [(b"authorization", b"Negotiate abc")]}) == ""


def test_authentication_that_is_off_lets_everybody_in(start_app: StartApp) -> None:
    response = start_app(auth_enabled=False, api_keys="").get("/v1/items/1")

    assert response.status_code == 200


def test_further_public_paths_can_be_named(start_app: StartApp) -> None:
    client = start_app(auth_exempt_paths="/v1/items/1, /health")

    statuses = [client.get(path).status_code for path in ("/v1/items/1", "/v1/items/2", "/metrics")]

    assert statuses == [200, 401, 401]
