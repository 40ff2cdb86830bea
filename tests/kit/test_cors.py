"""Browsers of named origins may call; nobody else's."""

import pytest

from support.kit_app import AUTHORIZED, StartApp

ORIGIN = "https://app.company.com"


def _preflight(headers: str = "authorization,content-type", origin: str = ORIGIN) -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": headers,
    }


def test_a_preflight_needs_no_key_and_counts_on_no_limit(start_app: StartApp) -> None:
    client = start_app(cors_allowed_origins=ORIGIN, rate_limit_per_minute=1)

    responses = [client.options("/v1/completions", headers=_preflight()) for _ in range(3)]

    assert {response.status_code for response in responses} == {200}
    assert responses[0].headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in responses[0].headers["access-control-allow-methods"]
    assert "x-request-id" in responses[0].headers


@pytest.mark.parametrize(
    "refused",
    [
        _preflight(origin="https://evil.test"),
        _preflight(origin="https://app.company.com.evil.test"),
        _preflight(headers="x-stainless-os"),
        {**_preflight(), "access-control-request-method": "DELETE"},
    ],
)
def test_other_origins_headers_and_methods_are_refused(
    start_app: StartApp, refused: dict[str, str]
) -> None:
    response = start_app(cors_allowed_origins=ORIGIN).options("/v1/completions", headers=refused)

    assert response.status_code == 400


def test_further_headers_can_be_named(start_app: StartApp) -> None:
    client = start_app(
        cors_allowed_origins=ORIGIN, cors_allowed_headers="Content-Type, Authorization, X-Team"
    )

    response = client.options("/v1/completions", headers=_preflight("x-team"))

    assert response.status_code == 200


def test_reflect_admits_whatever_a_browser_client_asks_for(start_app: StartApp) -> None:
    client = start_app(cors_allowed_origins=ORIGIN, cors_allowed_headers="reflect")

    response = client.options(
        "/v1/completions", headers=_preflight("authorization,x-stainless-os,x-stainless-lang")
    )

    assert response.status_code == 200
    assert "x-stainless-os" in response.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/whoami", AUTHORIZED, 200),
        ("/v1/whoami", {}, 401),
        ("/v1/nowhere", AUTHORIZED, 404),
        ("/v1/crash", AUTHORIZED, 500),
    ],
)
def test_a_browser_may_read_every_answer_errors_included(
    start_app: StartApp, path: str, headers: dict[str, str], status: int
) -> None:
    client = start_app(cors_allowed_origins=ORIGIN)

    response = client.get(path, headers={**headers, "origin": ORIGIN})

    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == ORIGIN
    exposed = response.headers["access-control-expose-headers"].lower()
    assert {"x-request-id", "retry-after"} <= {name.strip() for name in exposed.split(",")}


def test_credentials_of_the_browser_are_never_asked_for(start_app: StartApp) -> None:
    response = start_app(cors_allowed_origins=ORIGIN).get("/health", headers={"origin": ORIGIN})

    assert "access-control-allow-credentials" not in response.headers


def test_without_the_setting_there_is_no_cors(start_app: StartApp) -> None:
    response = start_app().get("/health", headers={"origin": ORIGIN})

    assert "access-control-allow-origin" not in response.headers
