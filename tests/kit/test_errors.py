"""Every failure reaches the client in the service's form, and nothing internal with it."""

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from service_kit.errors import UnhandledErrorMiddleware, http_error
from support.kit_app import AUTHORIZED, PlainForm, StartApp


def test_an_unknown_url_is_404_in_the_services_form(start_app: StartApp) -> None:
    response = start_app().get("/v1/nowhere", headers=AUTHORIZED)

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/json"
    assert response.json()["code"] == "not_found"
    assert response.json()["message"] == "Invalid URL (GET /v1/nowhere)"


def test_a_wrong_method_is_405_and_names_the_right_ones(start_app: StartApp) -> None:
    response = start_app().get("/v1/completions", headers=AUTHORIZED)

    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.json()["code"] == "method_not_allowed"


def test_an_expected_failure_shows_all_that_it_carries(start_app: StartApp) -> None:
    response = start_app().get("/v1/teapot", headers=AUTHORIZED)

    assert response.status_code == 418
    assert response.headers["x-tea"] == "green"
    body = response.json()
    assert (body["code"], body["field"], body["available"]) == ("teapot", "pot", 3)


def test_an_unexpected_failure_shows_nothing_internal(start_app: StartApp) -> None:
    response = start_app().get("/v1/crash", headers=AUTHORIZED)

    assert response.status_code == 500
    assert response.json()["code"] == "internal_error"
    for internal in ("Traceback", "RuntimeError", "accounts", "sk-live", "kit_app", "File"):
        assert internal not in response.text


def test_a_failure_after_the_answer_began_breaks_the_connection(start_app: StartApp) -> None:
    """A stream that simply ended would look complete."""
    client = start_app()

    with (
        client.stream("GET", "/v1/crash-later", headers=AUTHORIZED) as response,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        response.read()

    assert response.status_code == 200


def test_the_service_goes_on_after_an_unexpected_failure(start_app: StartApp) -> None:
    client = start_app()
    client.get("/v1/crash", headers=AUTHORIZED)

    assert client.get("/v1/whoami", headers=AUTHORIZED).status_code == 200


@pytest.mark.parametrize(
    ("status", "code"), [(404, "not_found"), (405, "method_not_allowed"), (400, "http_error")]
)
def test_a_status_of_the_framework_gets_a_code(status: int, code: str) -> None:
    assert http_error(status, "GET", "/x").code == code


def test_a_status_that_has_no_name_is_no_failure_of_its_own() -> None:
    error = http_error(HTTPException(499).status_code, "GET", "/x")

    assert error.status == 499
    assert error.message


async def test_a_client_that_leaves_while_it_sends_is_no_server_error() -> None:
    sent: list[Message] = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ClientDisconnect

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    await UnhandledErrorMiddleware(app, form=PlainForm())(scope, receive, send)

    assert sent == []
