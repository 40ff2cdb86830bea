"""What tests say to a credits service."""

import itertools
import uuid
from collections.abc import Mapping
from typing import Any, Self

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from credits.drivers import Clock
from credits_service.main import create_app
from credits_service.settings import CreditsSettings
from support.processes import ServiceProcess

SERVICE_KEY = "svc-0123456789abcdef"
ADMIN_KEY = "adm-0123456789abcdef"
_KEYS = {"API_KEYS": f"tester:{SERVICE_KEY}", "ADMIN_API_KEYS": f"admin:{ADMIN_KEY}"}

Json = dict[str, Any]


def credits_process(ledger_url: str, **settings: str) -> ServiceProcess:
    """Start a service on a ledger."""
    return ServiceProcess("credits-service", {**_KEYS, "DATABASE_URL": ledger_url, **settings})


def app_of(ledger_url: str, clock: Clock | None = None, **settings: Any) -> FastAPI:
    """Make an app on a ledger."""
    return create_app(
        CreditsSettings(
            _env_file=None,
            api_keys=SecretStr(_KEYS["API_KEYS"]),
            admin_api_keys=SecretStr(_KEYS["ADMIN_API_KEYS"]),
            database_url=SecretStr(ledger_url),
            **settings,
        ),
        clock=clock,
    )


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def assert_problem(
    response: httpx.Response, status: int, code: str, field: str | None = None
) -> Json:
    """The answer is a problem in every respect that clients rely on."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: Json = response.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"] == f"urn:problem:credits:{code}"
    assert body["title"]
    assert body["detail"]
    assert body["request_id"]
    if not response.headers.get("idempotency-replayed"):
        assert body["request_id"] == response.headers["x-request-id"]
    if field is not None:
        assert [error["field"] for error in body["errors"]] == [field]
    return body


class CreditsClient:
    """Calls a service; asks with the service key unless an admin is needed."""

    def __init__(self, base_url: str) -> None:
        self.http = httpx.Client(base_url=base_url, timeout=60)
        self._references = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.http.close()

    def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        key: str | None = None,
        api_key: str = SERVICE_KEY,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request to the versioned API."""
        sent = {**bearer(api_key), **(headers or {})}
        if key is not None:
            sent["Idempotency-Key"] = key
        return self.http.request(method, f"/api/v1{path}", json=body, headers=sent)

    def top_up(self, user_id: str, amount: str, **fields: Any) -> Json:
        body = {"user_id": user_id, "amount": amount, **fields}
        response = self.call("POST", "/topup", body, key=uuid.uuid4().hex, api_key=ADMIN_KEY)
        return _expect(response, 201)

    def bill(
        self, user_id: str, amount: str, key: str | None = None, **fields: Any
    ) -> httpx.Response:
        body = {"user_id": user_id, "amount": amount, "description": "test", **fields}
        return self.call("POST", "/bill", body, key=key)

    def hold(self, user_id: str, amount: str, **fields: Any) -> httpx.Response:
        body = {"user_id": user_id, "amount": amount, **fields}
        return self.call("POST", "/holds", body, key=uuid.uuid4().hex)

    def held(self, user_id: str, amount: str, **fields: Any) -> Json:
        return _expect(self.hold(user_id, amount, **fields), 201)

    def account(self, user_id: str) -> Json:
        return _expect(self.call("GET", f"/accounts/{user_id}"), 200)

    def transactions(self, user_id: str) -> list[Json]:
        """Read the whole journal of an account, page by page, oldest first."""
        found: list[Json] = []
        cursor = ""
        while True:
            path = f"/accounts/{user_id}/transactions?order=asc&limit=200{cursor}"
            page = _expect(self.call("GET", path), 200)
            found += page["transactions"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def assert_sound(self) -> Json:
        """Every invariant holds over the whole ledger."""
        report = _expect(self.call("GET", "/integrity", api_key=ADMIN_KEY), 200)
        assert report["violations"] == []
        assert report["ok"] is True
        return report


def _expect(response: httpx.Response, status: int) -> Json:
    assert response.status_code == status, response.text
    body: Json = response.json()
    return body
