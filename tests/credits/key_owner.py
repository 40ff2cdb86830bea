"""An account and its issued keys, as tests speak of them."""

import itertools
import uuid
from typing import Any

import httpx

from credits.client import ADMIN_KEY, CreditsClient, Json


class KeyOwner:
    """A funded account of its own name, so that tests can share a service."""

    def __init__(self, client: CreditsClient) -> None:
        self.client = client
        self.account = f"owner-{uuid.uuid4()}"
        self._numbers = itertools.count()
        client.top_up(self.account, "5")

    def call(
        self, method: str, path: str, body: Json | None = None, key: str | None = None
    ) -> httpx.Response:
        """Ask as an admin, under a new idempotency key unless one is given."""
        key = f"{self.account}-{next(self._numbers)}" if key is None else key
        return self.client.call(method, path, body, key=key, api_key=ADMIN_KEY)

    def done(self, method: str, path: str, body: Json | None = None) -> Json:
        response = self.call(method, path, body)
        assert response.is_success, response.text
        found: Json = response.json()
        return found

    def make(self, **fields: Any) -> Json:
        return self.done("POST", "/keys", {"account": self.account, "name": "app", **fields})

    def rotate(self, key_id: str, grace_seconds: int = 0) -> Json:
        return self.done("POST", f"/keys/{key_id}/rotate", {"grace_seconds": grace_seconds})

    def keys(self) -> list[Json]:
        found: list[Json] = self.done("GET", f"/keys?account={self.account}")["keys"]
        return found

    def events(self, key_id: str) -> list[Json]:
        found: list[Json] = self.done("GET", f"/keys/{key_id}/events")["events"]
        return found

    def changes(self, key_id: str) -> list[Json]:
        """Return what was done to a key; refusals are written whenever it suits the service."""
        return [event for event in self.events(key_id) if event["kind"] != "refused"]

    def verdict(self, key: str) -> Json:
        response = self.client.call("POST", "/keys/verify", {"key": key})
        assert response.status_code == 200, response.text
        found: Json = response.json()
        return found

    def reason(self, key: str) -> str:
        """Return why a key is refused, or that it is active."""
        verdict = self.verdict(key)
        assert verdict["active"] is ("reason" not in verdict)
        return str(verdict.get("reason", "active"))
