"""What is wrong is refused with a problem that names it, and changes nothing."""

import itertools

import httpx
import pytest

from credits.client import (
    ADMIN_KEY,
    SERVICE_KEY,
    CreditsClient,
    Json,
    assert_problem,
    bearer,
)

BILL: Json = {"user_id": "ann", "amount": "1", "description": "x"}
HOLD: Json = {"user_id": "ann", "amount": "1"}
TOP_UP: Json = {"user_id": "ann", "amount": "1"}

PATHS = ("/bill", "/holds", "/topup")
_NO_JSON = ("", "{", "nope", '{"user_id": "a\\ud800"}', '{"amount": NaN}')
BAD_AMOUNTS = [
    "0", "-1", "0.0000000001", '"0"',
    '"-0.5"', '"1.0000000001"', '"NaN"', '"Infinity"', '"-Infinity"',
    "1e400", '"9223372036.854775808"', "true", "null", '""', '"1,5"', '"ten"', "[]", "{}",
]  # fmt: skip
BAD_USER_IDS = ['""', '"a\\u0000b"', '"a\\nb"', '"\\u007f"', f'"{"x" * 129}"', "1", "null"]


def _raw(client: CreditsClient, path: str, content: str, *, method: str = "POST") -> httpx.Response:
    headers = {**bearer(ADMIN_KEY), "Idempotency-Key": "k", "Content-Type": "application/json"}
    return client.http.request(method, f"/api/v1{path}", content=content.encode(), headers=headers)


@pytest.fixture
def funded(service: CreditsClient) -> CreditsClient:
    service.top_up("ann", "5")
    return service


def _assert_untouched(client: CreditsClient) -> None:
    account = client.account("ann")
    assert (account["balance"], account["held"], account["seq"]) == ("5", "0", 1)
    assert len(client.call("GET", "/accounts").json()["accounts"]) == 1
    client.assert_sound()


def test_bad_amounts(funded: CreditsClient) -> None:
    for path, amount in itertools.product(PATHS, BAD_AMOUNTS):
        response = _raw(funded, path, f'{{"user_id": "ann", "amount": {amount}}}')
        problem = assert_problem(response, 422, response.json()["code"], "amount")
        assert problem["code"] in {"invalid_amount", "invalid_type", "invalid_value"}, amount
    _assert_untouched(funded)


def test_bad_user_ids(funded: CreditsClient) -> None:
    for path, user_id in itertools.product(PATHS, BAD_USER_IDS):
        response = _raw(funded, path, f'{{"user_id": {user_id}, "amount": "1"}}')
        assert_problem(response, 422, response.json()["code"], "user_id")
    _assert_untouched(funded)


def test_bad_bodies(funded: CreditsClient) -> None:
    for path, content in itertools.product(PATHS, _NO_JSON):
        assert_problem(_raw(funded, path, content), 400, "invalid_json")
    for path, content in itertools.product(PATHS, ("[]", "1", '"text"', "null")):
        assert_problem(_raw(funded, path, content), 422, "invalid_type")
    for path, missing in itertools.product(PATHS, ("user_id", "amount")):
        body = {name: value for name, value in HOLD.items() if name != missing}
        response = funded.call("POST", path, body, key="k", api_key=ADMIN_KEY)
        assert_problem(response, 422, "missing_required_parameter", missing)
    for path in PATHS:
        response = funded.call("POST", path, {**HOLD, "amuont": "1"}, key="k", api_key=ADMIN_KEY)
        assert_problem(response, 422, "unknown_parameter", "amuont")
    deep = '{"user_id": "ann", "amount": "1", "metadata": {"a": ' + "[" * 5000
    assert_problem(_raw(funded, "/bill", deep), 400, "invalid_json")
    headers = {**bearer(ADMIN_KEY), "Idempotency-Key": "k"}
    for path in PATHS:
        no_text = b'{"user_id": "ann", "amount": "\xff"}'
        response = funded.http.post(f"/api/v1{path}", content=no_text, headers=headers)
        assert_problem(response, 400, "invalid_json")
    _assert_untouched(funded)


BAD_FIELDS: list[tuple[str, Json, str]] = [
    ("/bill", {"description": "a\x00b"}, "description"),
    ("/bill", {"description": "x" * 1001}, "description"),
    ("/bill", {"description": 1}, "description"),
    ("/bill", {"final": "yes"}, "final"),
    ("/bill", {"hold_id": ""}, "hold_id"),
    ("/bill", {"metadata": []}, "metadata"),
    ("/bill", {"metadata": {"text": "x" * 17_000}}, "metadata"),
    ("/bill", {"usage": {"text": "x" * 17_000}}, "usage"),
    ("/holds", {"ttl_s": 0}, "ttl_s"),
    ("/holds", {"ttl_s": 10**9}, "ttl_s"),
    ("/holds", {"ttl_s": 1.5}, "ttl_s"),
    ("/holds", {"min_amount": "2"}, "min_amount"),
    ("/holds", {"min_amount": "0"}, "min_amount"),
    ("/holds", {"request_ref": "a\nb"}, "request_ref"),
    ("/topup", {"source": "stolen"}, "source"),
    ("/topup", {"priority": -1}, "priority"),
    ("/topup", {"priority": True}, "priority"),
    ("/topup", {"expires_at": "tomorrow"}, "expires_at"),
    ("/topup", {"expires_at": "2999-01-01T00:00:00"}, "expires_at"),
    ("/topup", {"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
    ("/topup", {"amount": "9223372036"}, "amount"),
    ("/topup", {"reference": "x" * 256}, "reference"),
]


def test_bad_fields(funded: CreditsClient) -> None:
    for path, body, field in BAD_FIELDS:
        response = funded.call("POST", path, {**HOLD, **body}, key="k", api_key=ADMIN_KEY)
        assert_problem(response, 422, response.json()["code"], field)
    _assert_untouched(funded)


def test_bad_patches(funded: CreditsClient) -> None:
    hold_id = funded.held("ann", "1")["hold_id"]
    for content, field in (
        ('{"amount": "0"}', "amount"),
        ('{"progress": -1}', "progress"),
        ('{"progress": "NaN"}', "progress"),
        ('{"ttl_s": 0}', "ttl_s"),
        ('{"status": "captured"}', "status"),
    ):
        response = _raw(funded, f"/holds/{hold_id}", content, method="PATCH")
        assert_problem(response, 422, response.json()["code"], field)
    assert_problem(_raw(funded, f"/holds/{hold_id}", "{", method="PATCH"), 400, "invalid_json")
    hold = funded.call("GET", f"/holds/{hold_id}").json()
    assert (hold["amount"], hold["progress"], hold["status"]) == ("1", "0", "active")


@pytest.mark.parametrize(("path", "api_key"), [("/holds", SERVICE_KEY), ("/topup", ADMIN_KEY)])
def test_a_key_is_required_where_a_retry_would_double(
    funded: CreditsClient, path: str, api_key: str
) -> None:
    response = funded.call("POST", path, HOLD, api_key=api_key)
    assert_problem(response, 400, "idempotency_key_required", "Idempotency-Key")
    _assert_untouched(funded)


def test_bad_idempotency_keys(funded: CreditsClient) -> None:
    for key in ("", "with space", "x" * 256):
        assert_problem(funded.bill("ann", "1", key=key), 422, "invalid_value", "Idempotency-Key")
    _assert_untouched(funded)


PRIVATE = [
    ("POST", "/bill"),
    ("POST", "/holds"),
    ("GET", "/holds/x"),
    ("PATCH", "/holds/x"),
    ("DELETE", "/holds/x"),
    ("POST", "/topup"),
    ("GET", "/accounts"),
    ("GET", "/accounts/ann"),
    ("GET", "/accounts/ann/transactions"),
    ("GET", "/integrity"),
    ("GET", "/unknown"),
]


def test_no_key_or_a_wrong_one_is_401(funded: CreditsClient) -> None:
    for method, path in PRIVATE:
        for headers in ({}, bearer("wrong-key-0123456789"), {"Authorization": "Basic eDp5"}):
            response = funded.http.request(method, f"/api/v1{path}", headers=headers, json=BILL)
            assert_problem(response, 401, "invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
    _assert_untouched(funded)


@pytest.mark.parametrize(("method", "path"), [("POST", "/topup"), ("GET", "/integrity")])
def test_a_service_key_is_not_an_admin_key(funded: CreditsClient, method: str, path: str) -> None:
    response = funded.call(method, path, TOP_UP, key="k", api_key=SERVICE_KEY)
    assert_problem(response, 403, "permission_denied")
    _assert_untouched(funded)


NO_ROUTES = [
    ("GET", "/api/v1/nope", 404),
    ("GET", "/api/v2/bill", 404),
    ("GET", "/", 404),
    ("GET", "/api/v1/bill", 405),
    ("DELETE", "/api/v1/topup", 405),
    ("PUT", "/api/v1/holds/x", 405),
]


def test_unknown_paths_and_methods(funded: CreditsClient) -> None:
    for method, path, status in NO_ROUTES:
        response = funded.http.request(method, path, headers=bearer(ADMIN_KEY))
        code = {404: "not_found", 405: "method_not_allowed"}[status]
        assert_problem(response, status, code)


def test_a_body_over_the_limit_is_413(funded: CreditsClient) -> None:
    response = _raw(funded, "/bill", " " * 1_100_000)
    assert_problem(response, 413, "request_too_large")
    _assert_untouched(funded)


def test_accounts_that_cannot_be_are_404(funded: CreditsClient) -> None:
    for path in ("/accounts/no%00one", "/accounts/nobody", "/accounts/x/y"):
        assert_problem(funded.call("GET", path), 404, "account_not_found")
        assert_problem(funded.call("GET", f"{path}/transactions"), 404, "account_not_found")


def test_holds_that_cannot_be_are_404(funded: CreditsClient) -> None:
    for method in ("GET", "PATCH", "DELETE"):
        for hold_id in ("unknown", "no%00ne", "x" * 500):
            response = funded.call(method, f"/holds/{hold_id}", {})
            assert_problem(response, 404, "hold_not_found")


def test_bad_page_parameters(funded: CreditsClient) -> None:
    for query in ("limit=0", "limit=501", "limit=x", "cursor=x", "cursor=-1", "order=random"):
        response = funded.call("GET", f"/accounts/ann/transactions?{query}")
        assert_problem(response, 422, "invalid_value", query.partition("=")[0])
    for cursor in ("%20", "!!", "AA==", ""):
        response = funded.call("GET", f"/accounts?cursor={cursor}")
        assert_problem(response, 422, "invalid_value", "cursor")
