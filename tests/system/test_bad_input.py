"""Whatever is wrong with a request, the answer has the surface's form, status and request id."""

from typing import Any

import httpx
import pytest

from support.stack import CLIENT_KEY, MODEL, SERVICE_KEY, Stack

GOOD: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
INTERNALS = ("Traceback", "sqlite", "asyncpg", "SELECT", ".py", 'detail":[', "generativelanguage")


def assert_openai_error(answer: httpx.Response, status: int, code: str | None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["code"] == code
    assert not [word for word in INTERNALS if word in answer.text]
    error: dict[str, Any] = body["error"]
    return error


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert body["request_id"] == answer.headers["x-request-id"]
    assert not [word for word in INTERNALS if word in answer.text]
    problem: dict[str, Any] = body
    return problem


@pytest.fixture
def proxy(stack: Stack) -> httpx.Client:
    return stack.http(stack.proxy.url, CLIENT_KEY)


@pytest.fixture
def ledger(stack: Stack) -> httpx.Client:
    return stack.http(stack.ledger.url, SERVICE_KEY)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b"\xff\xfe", "invalid_json", None),
        (b"[]", "invalid_type", None),
        (b'"text"', "invalid_type", None),
        (b"{}", "missing_required_parameter", "model"),
        (b'{"model":"m"}', "missing_required_parameter", "messages"),
        (b'{"model":7,"messages":[]}', "invalid_type", "model"),
        (b'{"model":"m","messages":[]}', "invalid_value", "messages"),
        (b'{"model":"m","messages":"hi"}', "invalid_type", "messages"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}]}', "model_not_found", "model"),
    ],
)
def test_a_wrong_completion_request_is_a_400_with_the_field(
    proxy: httpx.Client, body: bytes, code: str, param: str | None
) -> None:
    error = assert_openai_error(proxy.post("/v1/chat/completions", content=body), 400, code)

    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


def test_a_body_over_the_limit_is_a_413(proxy: httpx.Client) -> None:
    answer = proxy.post("/v1/chat/completions", content=b" " * (20 * 1024 * 1024 + 1))

    assert_openai_error(answer, 413, "request_too_large")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nope", "/v1/chat", "/v1/models/", "/admin"])
def test_a_wrong_path_is_a_404_that_names_it(proxy: httpx.Client, path: str) -> None:
    answer = proxy.get(path)

    if path == "/v1/models/":
        assert_openai_error(answer, 404, "model_not_found")
    else:
        error = assert_openai_error(answer, 404, None)
        assert error["message"] == f"Invalid URL (GET {path})"


def test_a_wrong_method_is_a_405_that_names_the_right_one(proxy: httpx.Client) -> None:
    answer = proxy.get("/v1/chat/completions")

    assert_openai_error(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer sk-wrong-0123456789"},
        {"authorization": CLIENT_KEY},
        {"authorization": "Basic dTpw"},
        {"api-key": "nope"},
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/nope", "//health", "/health/", "/%68ealth", "/v1/chat/completions"]
)
def test_without_an_accepted_key_every_route_says_the_same(
    stack: Stack, headers: dict[str, str], path: str
) -> None:
    answer = stack.http(stack.proxy.url, None).get(path, headers=headers)

    error = assert_openai_error(answer, 401, "invalid_api_key")
    assert error["type"] == "authentication_error"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["api-key", "x-api-key"])
def test_a_key_may_come_as_other_clients_send_it(stack: Stack, header: str) -> None:
    answer = stack.http(stack.proxy.url, None).get("/v1/models", headers={header: CLIENT_KEY})

    assert answer.status_code == 200


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_the_routes_are_there_with_and_without_the_version(
    proxy: httpx.Client, stack: Stack, prefix: str
) -> None:
    body = {**GOOD, "user": stack.account("1")}

    assert proxy.post(f"{prefix}/chat/completions", json=body).status_code == 200
    assert proxy.get(f"{prefix}/models").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/openapi.json", "/docs"])
def test_operators_need_no_key_for_the_public_paths(stack: Stack, path: str) -> None:
    for base_url in (stack.proxy.url, stack.ledger.url):
        assert stack.http(base_url, None).get(path).status_code == 200


def test_the_openapi_document_describes_the_chat_request(stack: Stack) -> None:
    document = stack.http(stack.proxy.url, None).get("/openapi.json").json()

    operation = document["paths"]["/v1/chat/completions"]["post"]
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    assert {"model", "messages", "stream"} <= set(schema["properties"])
    assert "422" not in operation["responses"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/v1/bill", b"{", 400),
        ("POST", "/api/v1/bill", b"{}", 422),
        ("POST", "/api/v1/bill", b'{"user_id":"a","amount":0.1,"description":7}', 422),
        ("POST", "/api/v1/bill", b'{"user_id":"a","amount":-1,"description":"x"}', 422),
        ("POST", "/api/v1/bill", b" " * 1_100_000, 413),
        ("GET", "/api/v1/nope", b"", 404),
        ("GET", "/api/v1/bill", b"", 405),
        ("GET", "/api/v1/accounts/nobody", b"", 404),
        ("POST", "/api/v1/topup", b'{"user_id":"a","amount":"1"}', 403),
        ("GET", "/api/v1/integrity", b"", 403),
    ],
)
def test_a_wrong_ledger_request_is_a_problem_document(
    ledger: httpx.Client, method: str, path: str, body: bytes, status: int
) -> None:
    answer = ledger.request(method, path, content=body, headers={"idempotency-key": "k"})

    assert_problem(answer, status)


def test_the_ledger_refuses_who_has_no_key(stack: Stack) -> None:
    answer = stack.http(stack.ledger.url, None).post("/api/v1/bill", json={})

    assert_problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_client_cannot_choose_a_harmful_request_id(proxy: httpx.Client) -> None:
    answer = proxy.get("/v1/models", headers={"x-request-id": "a b\tc"})

    assert answer.headers["x-request-id"].startswith("req_")


def test_an_account_name_that_cannot_be_printed_is_refused(proxy: httpx.Client) -> None:
    answer = proxy.post("/v1/chat/completions", json={**GOOD, "user": "a\nb"})

    error = assert_openai_error(answer, 400, "invalid_value")
    assert error["param"] == "user"
