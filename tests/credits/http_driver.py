"""Runs commands over HTTP, each through the endpoint that a client would use."""

import http.client
import json
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from credits.client import ADMIN_KEY, Json
from credits.drivers import Clock, Limits
from credits.model_books import moment, usd
from credits_service.ledger.batch import Command, Result
from credits_service.ledger.invariants import Violation
from credits_service.ledger.operations import (
    AmendHold,
    ChangeAccount,
    Charge,
    Operation,
    PlaceHold,
    Refund,
    ReleaseHold,
    SettleDue,
    TopUp,
)

SECOND = 1_000_000
_LIMITS = {"limit_day_nanos": "day", "limit_month_nanos": "month", "limit_total_nanos": "total"}


def _usd(nanos: int | None) -> str | None:
    return None if nanos is None else usd(nanos)


def _usd_of(limits: Limits) -> Json:
    return {name: _usd(nanos) for name, nanos in limits.items()}


def _only(**fields: Any) -> Json:
    """Leave out what is not said."""
    return {name: value for name, value in fields.items() if value is not None}


def _amend(operation: AmendHold) -> Json:
    ttl = operation.ttl_micros
    return _only(
        amount=_usd(operation.amount_nanos),
        ttl_s=None if ttl is None else ttl // SECOND,
        progress=_usd(operation.progress_nanos),
    )


def _change(operation: ChangeAccount) -> Json:
    body = _only(status=operation.status, forfeit=operation.forfeit or None)
    limits = {
        _LIMITS[name]: _usd(nanos) for name, nanos in operation.settings.items() if name in _LIMITS
    }
    if limits:
        body["limits"] = limits
    if "low_balance_nanos" in operation.settings:
        body["low_balance"] = _usd(operation.settings["low_balance_nanos"])
    return body


def _bill(operation: Charge) -> Json:
    return {
        "user_id": operation.user_id,
        "amount": usd(operation.amount_nanos),
        "description": operation.description,
        "final": operation.final,
        **_only(hold_id=operation.hold_id, key_id=operation.key_id),
    }


def _hold(operation: PlaceHold) -> Json:
    return {
        "user_id": operation.user_id,
        "amount": usd(operation.amount_nanos),
        "ttl_s": operation.ttl_micros // SECOND,
        **_only(min_amount=_usd(operation.min_amount_nanos), key_id=operation.key_id),
    }


def _top_up(operation: TopUp) -> Json:
    expiry = operation.expires_at_micros
    return {
        "user_id": operation.user_id,
        "amount": usd(operation.amount_nanos),
        "priority": operation.priority,
        **_only(expires_at=None if expiry is None else moment(expiry)),
    }


def body_of(operation: Operation) -> Json | None:
    """Return the body that an operation's endpoint is sent."""
    match operation:
        case Charge():
            return _bill(operation)
        case PlaceHold():
            return _hold(operation)
        case AmendHold():
            return _amend(operation)
        case TopUp():
            return _top_up(operation)
        case Refund():
            return _only(reason=operation.reason, amount=_usd(operation.amount_nanos))
        case _:
            return _change(operation) if isinstance(operation, ChangeAccount) else None


def endpoint_of(operation: Operation) -> tuple[str, str]:
    """Return the method and the path of an operation's endpoint."""
    match operation:
        case AmendHold() | ReleaseHold():
            method = "PATCH" if isinstance(operation, AmendHold) else "DELETE"
            return method, f"/holds/{operation.hold_id}"
        case Refund():
            return "POST", f"/transactions/{operation.transaction_id}/refund"
        case ChangeAccount() | SettleDue():
            return "PATCH", f"/accounts/{quote(operation.user_id, safe='')}"
        case _:
            return "POST", _PATHS[type(operation)]


_PATHS: dict[type, str] = {Charge: "/bill", PlaceHold: "/holds", TopUp: "/topup"}
_OPS: dict[type, str] = {
    Charge: "bill",
    PlaceHold: "hold",
    AmendHold: "amend_hold",
    ReleaseHold: "release_hold",
    TopUp: "topup",
    Refund: "refund",
}


def _item_of(command: Command) -> Json:
    operation = command.operation
    item = {"op": _OPS[type(operation)]} | _only(body=body_of(operation))
    if command.key is not None:
        item["idempotency_key"] = command.key.key
    if isinstance(operation, AmendHold | ReleaseHold):
        item["hold_id"] = operation.hold_id
    if isinstance(operation, Refund):
        item["transaction_id"] = operation.transaction_id
    return item


def _as_sent(body: Json) -> bytes:
    """Write a body as it was in the answer around it: a replay must be equal to the byte."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


class HttpDriver:
    """Asks a service whose clock it moves, on one connection that is kept."""

    def __init__(self, base_url: str, clock: Clock) -> None:
        self.clock = clock
        self._connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=60)
        self._headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"}

    def send(self, method: str, path: str, body: Json | None = None, key: str = "") -> Result:
        """Send a request to the versioned API, with admin's rights."""
        headers = self._headers | ({"Idempotency-Key": key} if key else {})
        content = None if body is None else json.dumps(body)
        self._connection.request(method, f"/api/v1{path}", content, headers)
        response = self._connection.getresponse()
        replayed = response.getheader("Idempotency-Replayed") == "true"
        return Result(response.status, response.read(), replayed)

    def read(self, path: str, **query: str) -> Json:
        """Read what must be there."""
        result = self.send("GET", f"{path}?{urlencode(query)}")
        assert result.status == 200, result.body
        found: Json = json.loads(result.body)
        return found

    def run(self, commands: Sequence[Command]) -> list[Result]:
        if len(commands) == 1:
            return [self._run_one(commands[0])]
        sent = {"operations": list(map(_item_of, commands))}
        result = self.send("POST", "/batch", sent)
        assert result.status == 200, result.body
        return [
            Result(item["status"], _as_sent(item["body"]), item["replayed"])
            for item in json.loads(result.body)["results"]
        ]

    def _run_one(self, command: Command) -> Result:
        operation, key = command.operation, command.key
        is_sweep = isinstance(operation, SettleDue)
        # No endpoint sweeps; a change of nothing settles what is due, and no more.
        body = {} if is_sweep else body_of(operation)
        result = self.send(*endpoint_of(operation), body, key.key if key else "")
        return Result(200, b"{}") if is_sweep and result.status == 404 else result

    def violations(self, user_ids: Sequence[str] | None = None) -> list[Violation]:
        if user_ids is not None and not user_ids:
            return []
        query = urlencode([("user_id", user_id) for user_id in user_ids or ()])
        result = self.send("GET", f"/integrity?{query}")
        assert result.status == 200, result.body
        report = json.loads(result.body)
        assert report["ok"] is (report["violations"] == [])
        return [Violation(**violation) for violation in report["violations"]]

    def make_key(self, user_id: str, limits: Limits) -> str:
        body = {"account": user_id, "name": "app", "limits": _usd_of(limits)}
        result = self.send("POST", "/keys", body, uuid.uuid4().hex)
        assert result.status == 201, result.body
        return str(json.loads(result.body)["key_id"])

    def limit_key(self, key_id: str, limits: Limits) -> None:
        result = self.send("PATCH", f"/keys/{key_id}", {"limits": _usd_of(limits)})
        assert result.status == 200, result.body

    def revoke_key(self, key_id: str) -> None:
        result = self.send("DELETE", f"/keys/{key_id}")
        assert result.status == 200, result.body

    def events(self, _user_id: str) -> None:
        """Nobody reads webhooks here."""

    def close(self) -> None:
        """Stay open for the next example."""
