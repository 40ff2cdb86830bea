"""Something that every route can be asked about, and what of it a request may have changed."""

import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from support.key_holders import admin, ask, issue
from support.stack import CLIENT_KEY, MODEL, SERVICE_KEY, Stack


@dataclass(frozen=True, slots=True)
class World:
    """An account with a hold, a charge, an issued key and an answer that it paid for."""

    account: str
    hold_id: str
    transaction_id: str
    key_id: str
    key: str
    receipt_id: str

    def value(self, parameter: str) -> str:
        """Return what to write for a parameter of a path."""
        known = {
            "user_id": self.account,
            "hold_id": self.hold_id,
            "transaction_id": self.transaction_id,
            "key_id": self.key_id,
            "receipt_id": self.receipt_id,
            "model": MODEL,
        }
        return quote(known.get(parameter, "x"))


def make_world(stack: Stack, *, with_answer: bool = True) -> World:
    """Make one on a running system.

    Args:
        stack: the system.
        with_answer: whether there is a receipt in it, which takes longest.
    """
    account = stack.account("5")
    receipt_id = "none"
    if with_answer:
        answer = ask(stack.proxy.url, CLIENT_KEY, user=account)
        assert answer.status_code == 200, answer.text
        receipt_id = answer.json()["id"]
    hold = _charge(stack, "/holds", {"user_id": account, "amount": "0.01"})
    bill = {"user_id": account, "amount": "0.01", "description": "x"}
    issued = issue(stack, account)
    return World(
        account=account,
        hold_id=hold["hold_id"],
        transaction_id=_charge(stack, "/bill", bill)["transaction_id"],
        key_id=issued["key_id"],
        key=issued["key"],
        receipt_id=receipt_id,
    )


def _charge(stack: Stack, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = stack.http(stack.ledger.url, SERVICE_KEY).post(
        f"/api/v1{path}", json=body, headers={"idempotency-key": uuid.uuid4().hex}
    )
    assert answer.is_success, answer.text
    found: dict[str, Any] = answer.json()
    return found


def state_of(stack: Stack, world: World) -> dict[str, Any]:
    """Return all that requests could change of it; that a key was used is no change."""
    account = f"/accounts/{world.account}"
    keys = admin(stack, "GET", f"/keys?account={world.account}&limit=500")["keys"]
    return {
        "account": admin(stack, "GET", account),
        "holds": admin(stack, "GET", f"{account}/holds"),
        "transactions": admin(stack, "GET", f"{account}/transactions?limit=500"),
        "keys": [{**key, "last_used_at": None} for key in keys],
    }
