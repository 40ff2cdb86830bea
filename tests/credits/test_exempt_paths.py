"""A path that needs no key brings no rights: what asks for one still wants it."""

from pathlib import Path

import httpx
import pytest

from credits.client import ADMIN_KEY, SERVICE_KEY, app_of, assert_problem, bearer
from support.live_server import live_server

TOPUP = {"user_id": "mallory", "amount": "1000"}


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite3'}"


def test_an_exempt_path_of_the_ledger_is_not_open_to_everybody(ledger: str) -> None:
    paths = ("/health", "/api/v1/topup", "/api/v1/accounts", "/api/v1/keys", "/api/v1/batch")
    with live_server(app_of(ledger, auth_exempt_paths=paths)) as url:
        once = {"idempotency-key": "once"}
        topup = httpx.post(f"{url}/api/v1/topup", json=TOPUP, headers=once)
        accounts = httpx.get(f"{url}/api/v1/accounts")
        keys = httpx.post(f"{url}/api/v1/keys", json={"account": "ann", "name": "k"}, headers=once)
        item = {"op": "topup", "idempotency_key": "k", "body": TOPUP}
        batch = httpx.post(f"{url}/api/v1/batch", json={"operations": [item]}).json()
        health = httpx.get(f"{url}/health")

    for refused in (topup, accounts, keys):
        assert_problem(refused, 401, "invalid_api_key")
        assert refused.headers["www-authenticate"] == "Bearer"
    assert [result["status"] for result in batch["results"]] == [401]
    assert health.status_code == 200


def test_a_batch_does_only_what_its_key_may(ledger: str) -> None:
    item = {"op": "topup", "idempotency_key": "k", "body": TOPUP}
    with live_server(app_of(ledger)) as url:
        answers = [
            httpx.post(
                f"{url}/api/v1/batch", json={"operations": [item]}, headers=bearer(key)
            ).json()["results"][0]["status"]
            for key in (SERVICE_KEY, ADMIN_KEY)
        ]

    assert answers == [403, 201]


def test_authentication_that_is_off_gives_everybody_all_rights(ledger: str) -> None:
    """As the deployment guide says of `AUTH_ENABLED=false`."""
    with live_server(app_of(ledger, auth_enabled=False)) as url:
        topup = httpx.post(f"{url}/api/v1/topup", json=TOPUP, headers={"idempotency-key": "once"})

    assert topup.status_code == 201
