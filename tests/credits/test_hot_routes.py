"""Calls that go past the router: the same endpoints, with everything around them."""

import json
import re

import httpx

from credits.client import SERVICE_KEY, CreditsClient, app_of, assert_problem, bearer
from credits_service.api import hot_routes


def test_each_hot_call_is_in_the_document(ledger_url: str) -> None:
    paths = app_of(ledger_url).openapi()["paths"]
    exact, identified = hot_routes.EXACT, hot_routes.IDENTIFIED
    for (method, _), route in (*exact.items(), *identified.items()):
        documented = paths[route.path][method.lower()]
        assert documented["operationId"].startswith(route.endpoint.__name__)


def test_all_that_the_document_refers_to_is_in_it(ledger_url: str) -> None:
    document = app_of(ledger_url).openapi()
    named = re.findall(r"#/components/schemas/(\w+)", json.dumps(document))
    assert set(named) <= set(document["components"]["schemas"])


def test_what_is_not_exactly_a_hot_call_is_the_routers(service: CreditsClient) -> None:
    for method, path, status in (
        ("GET", "/bill", 405),
        ("PUT", "/holds", 405),
        ("POST", "/bill/", 404),
        ("PATCH", "/holds/", 404),
        ("DELETE", "/holds/a%2Fb", 404),
        ("POST", "/bills", 404),
    ):
        assert service.call(method, path).status_code == status, (method, path)


def test_a_hot_call_keeps_its_key_its_limits_its_id_and_its_metrics(
    service: CreditsClient,
) -> None:
    service.top_up("ann", "1")
    answer = service.call(
        "POST",
        "/bill",
        {"user_id": "ann", "amount": "0.1", "description": "x"},
        headers={"x-request-id": "my-id"},
    )
    assert (answer.status_code, answer.headers.get_list("x-request-id")) == (200, ["my-id"])
    wrong = service.call("POST", "/bill", {}, api_key="svc-wrong-0123456789")
    assert_problem(wrong, 401, "invalid_api_key")
    large = service.http.post("/api/v1/bill", content=b" " * 3_000_000, headers=bearer(SERVICE_KEY))
    assert_problem(large, 413, "request_too_large")
    hold = service.held("ann", "0.1")["hold_id"]
    assert service.call("PATCH", f"/holds/{hold}", {"ttl_s": 60}).status_code == 200
    text = httpx.get(
        f"{service.http.base_url}/metrics", headers={"accept": "text/plain", **bearer(SERVICE_KEY)}
    ).text
    for method, route, status in (
        ("POST", "/api/v1/bill", 200),
        ("PATCH", "/api/v1/holds/{hold_id}", 200),
    ):
        line = f'method="{method}",route="{route}",status="{status}"'
        assert line in text
