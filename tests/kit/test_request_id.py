"""Every answer carries a request id: the client's own if it is harmless, a new one if not."""

import re

import pytest

from support.kit_app import AUTHORIZED, StartApp

NEW_ID = re.compile(r"req_[0-9a-f]{24}")


@pytest.mark.parametrize("own", ["a", "my-own.id_42", "x" * 128])
def test_a_clients_own_id_is_taken(start_app: StartApp, own: str) -> None:
    response = start_app().get("/health", headers={"x-request-id": own})

    assert response.headers["x-request-id"] == own


@pytest.mark.parametrize("own", ["", "x" * 129, "a b", "id;drop", "schlüssel", "a/b", "a\tb"])
def test_an_unfit_id_is_replaced(start_app: StartApp, own: str) -> None:
    response = start_app().get("/health", headers={b"x-request-id": own.encode()})

    assert NEW_ID.fullmatch(response.headers["x-request-id"])


def test_requests_without_an_id_get_different_ones(start_app: StartApp) -> None:
    client = start_app()

    ids = {client.get("/health").headers["x-request-id"] for _ in range(10)}

    assert len(ids) == 10
    assert all(NEW_ID.fullmatch(request_id) for request_id in ids)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/whoami", {}, 401),
        ("/v1/nowhere", AUTHORIZED, 404),
        ("/v1/completions", AUTHORIZED, 405),
        ("/v1/teapot", AUTHORIZED, 418),
        ("/v1/crash", AUTHORIZED, 500),
    ],
)
def test_errors_carry_the_id_in_header_and_body(
    start_app: StartApp, path: str, headers: dict[str, str], status: int
) -> None:
    response = start_app().get(path, headers={**headers, "x-request-id": "trace-7"})

    assert response.status_code == status
    assert response.headers["x-request-id"] == "trace-7"
    assert response.json()["request_id"] == "trace-7"


def test_a_refusal_by_the_rate_limit_carries_the_id(start_app: StartApp) -> None:
    client = start_app(rate_limit_per_minute=1)
    client.get("/v1/whoami")

    response = client.get("/v1/whoami", headers={"x-request-id": "trace-8"})

    assert response.status_code == 429
    assert response.headers["x-request-id"] == "trace-8"
    assert response.json()["request_id"] == "trace-8"
