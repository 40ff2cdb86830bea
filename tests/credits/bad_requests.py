"""A ledger with something of everything on it, and bad requests as tables."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx

from credits.client import ADMIN_KEY, CreditsClient, Json, assert_problem, bearer

SQL = "'; DROP TABLE accounts; --"
FRESH = "fresh"
NAMES = ("ann", "frozen", "closed", SQL)


class Bad(NamedTuple):
    """A request that must be refused.

    Attributes:
        path: `{hold}` and the like stand for ids of the world's.
        content: the body as it is sent.
        field: which one the problem names; "" for none.
        key: the idempotency key; "" for none, `FRESH` for a new one.
    """

    method: str
    path: str
    content: str
    status: int
    code: str
    field: str = ""
    key: str = FRESH


class World:
    """Accounts open, frozen and closed, holds active and ended, a charge half refunded."""

    def __init__(self, client: CreditsClient) -> None:
        self.client = client
        self._numbers = itertools.count()
        for name in NAMES:
            client.top_up(name, "5")
        self.ids = {
            "hold": client.held("ann", "1")["hold_id"],
            "ended": client.held("ann", "1")["hold_id"],
            "charge": client.bill("ann", "2").json()["transaction_id"],
            "spent": client.bill("ann", "1").json()["transaction_id"],
        }
        self.ids["topup"] = client.transactions("ann")[0]["transaction_id"]
        client.call("DELETE", f"/holds/{self.ids['ended']}")
        for transaction, body in (
            ("charge", {"amount": "0.5", "reason": "x"}),
            ("spent", {"reason": "x"}),
        ):
            path = f"/transactions/{self.ids[transaction]}/refund"
            self._done("POST", path, body, key=f"refund-{transaction}")
        self._done("PATCH", "/accounts/frozen", {"status": "frozen"})
        self._done("PATCH", "/accounts/closed", {"status": "closed", "forfeit": True})
        bill = {"user_id": "ann", "amount": "0.1", "description": ""}
        self._done("POST", "/bill", bill, key="used")

    def _done(self, method: str, path: str, body: Json, key: str | None = None) -> None:
        response = self.client.call(method, path, body, key=key, api_key=ADMIN_KEY)
        assert response.status_code < 300, response.text

    def send(self, bad: Bad) -> httpx.Response:
        path = bad.path
        for name, found in self.ids.items():
            path = path.replace(f"{{{name}}}", found)
        headers = httpx.Headers({**bearer(ADMIN_KEY), "Content-Type": "application/json"})
        headers.encoding = "latin-1"
        if bad.key:
            # What is refused may be remembered: another request needs another key.
            key = bad.key if bad.key != FRESH else f"fresh-{next(self._numbers)}"
            headers["Idempotency-Key"] = key
        content = bad.content
        for name, found in self.ids.items():
            content = content.replace(f"{{{name}}}", found)
        url = f"/api/v1{path}"
        return self.client.http.request(bad.method, url, content=content.encode(), headers=headers)

    def refuse(self, requests: Iterator[Bad] | list[Bad]) -> int:
        """Send them all: each is refused as it should be, and none leaves anything.

        Returns:
            how many there were.
        """
        before, count = self.figures(), 0
        for bad in requests:
            response = self.send(bad)
            assert response.status_code == bad.status, (bad, response.text)
            assert response.json()["code"] == bad.code, (bad, response.text)
            assert_problem(response, bad.status, bad.code, bad.field or None)
            assert "sql" not in response.text.lower().replace(SQL.lower(), ""), response.text
            count += 1
        assert self.figures() == before
        return count

    def figures(self) -> dict[str, Any]:
        """Return all that can be seen of the ledger; it must be sound."""
        report = self.client.assert_sound()
        accounts = self.client.call("GET", "/accounts?limit=500").json()["accounts"]
        holds: Json = self.client.call("GET", "/accounts/ann/holds").json()
        return {"report": report, "accounts": accounts, "ann": self.client.account("ann")} | holds


# Each with the place of the value and its field.
AMOUNTS: tuple[tuple[str, str, str, str], ...] = (
    ("PATCH", "/holds/{hold}", '{"progress": %s}', "progress"),
    ("POST", "/bill", '{"user_id": "ann", "amount": %s}', "amount"),
    ("POST", "/bill", '{"user_id": "ann", "hold_id": "{hold}", "amount": %s}', "amount"),
    ("POST", "/holds", '{"user_id": "ann", "amount": %s}', "amount"),
    ("POST", "/holds", '{"user_id": "ann", "amount": 9, "min_amount": %s}', "min_amount"),
    ("PATCH", "/holds/{hold}", '{"amount": %s}', "amount"),
    ("POST", "/topup", '{"user_id": "ann", "amount": %s}', "amount"),
    ("POST", "/transactions/{charge}/refund", '{"reason": "x", "amount": %s}', "amount"),
    ("PATCH", "/accounts/ann", '{"low_balance": %s}', "low_balance"),
    ("PATCH", "/accounts/ann", '{"limits": {"day": %s}}', "limits.day"),
    ("PATCH", "/accounts/ann", '{"limits": {"month": %s}}', "limits.month"),
    ("PATCH", "/accounts/ann", '{"limits": {"total": %s}}', "limits.total"),
)
BAD_AMOUNTS = (
    "0.30000000000000004",  # 0.1 + 0.2 in floats
    "0.0000000001", '"1.0000000001"', "1e-10", '"1E-10"', "1e400", '"1e400"', "1e18",
    "1000000000000000000", '"9223372036.854775808"', "1" + "0" * 400,
    "0", '"0.000"', "-0", "-1", '"-0.000000001"',
)  # fmt: skip
NO_AMOUNTS = (
    '"NaN"', '"sNaN"', '"Infinity"', '"-inf"', "true", "false", '""', '" "', '"1,5"', '"ten"',
    '"0x10"', '"$1"', "[]", "[1]", "{}", f'"{SQL}"',
    # What Python takes for decimal numbers and others don't.
    '"1_000"', '" 1"', '"1 "', '"1\\n"', '"+1"', '"\uff11"', '"\u0663"', '".5"', '"1."', '"1e"',
    '"1e1_0"', '"1e99999999999999999999"', '"-"',
)  # fmt: skip
NO_JSON = (
    "NaN",
    "Infinity",
    "-Infinity",
    "01",
    "+1",
    ".5",
    "1.",
    "'1'",
    "0x10",
    "1_000",
    '"\\ud800"',
)

BODIES: tuple[tuple[str, str, str], ...] = (
    ("POST", "/bill", '"user_id": "ann", "amount": "1"'),
    ("POST", "/holds", '"user_id": "ann", "amount": "1"'),
    ("POST", "/topup", '"user_id": "ann", "amount": "1"'),
    ("PATCH", "/holds/{hold}", '"progress": "1"'),
    ("POST", "/transactions/{charge}/refund", '"reason": "x"'),
    ("PATCH", "/accounts/ann", '"status": "frozen"'),
    ("POST", "/batch", '"operations": [{"op": "release_hold", "hold_id": "{hold}"}]'),
)
