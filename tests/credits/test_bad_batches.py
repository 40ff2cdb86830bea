"""A batch refuses what is no batch; each of its items has a problem of its own."""

import json

from credits.bad_requests import SQL, Bad, World
from credits.client import Json


def test_batches(world: World) -> None:
    item = {"op": "release_hold", "hold_id": "{ended}"}
    world.refuse(
        [
            Bad("POST", "/batch", json.dumps({"operations": value}), 422, code, "operations")
            for value, code in (
                ([], "invalid_value"),
                ([item] * 501, "invalid_value"),
                ("x", "invalid_type"),
                ({}, "invalid_type"),
                (None, "invalid_type"),
            )
        ]
    )


def _bill(**fields: object) -> Json:
    return {"op": "bill", "body": {"user_id": "ann", "amount": "1", **fields}}


def _refund(transaction_id: str, **fields: str) -> Json:
    item = {"op": "refund", "transaction_id": transaction_id, "body": {"reason": "x"}}
    return item | fields


# An item and the status, code and field of its problem.
_ITEMS: tuple[tuple[object, int, str, str], ...] = (
    (1, 422, "invalid_type", ""),
    ({}, 422, "missing_required_parameter", "op"),
    ({"op": "steal"}, 422, "invalid_value", "op"),
    ({"op": "bill"}, 422, "invalid_value", "body"),
    ({"op": "bill", "body": 1}, 422, "invalid_type", ""),
    ({"op": "bill", "body": {"user_id": "ann"}}, 422, "missing_required_parameter", "amount"),
    (_bill(amount=0.30000000000000004), 422, "invalid_amount", "amount"),
    (_bill(amount="-1"), 422, "invalid_amount", "amount"),
    (_bill(x=1), 422, "unknown_parameter", "x"),
    (_bill() | {"hold_id": "x"}, 422, "invalid_value", "hold_id"),
    (_bill() | {"idempotency_key": "a b"}, 422, "invalid_value", "idempotency_key"),
    (_bill() | {"idempotency_key": "used"}, 422, "idempotency_key_reused", "idempotency_key"),
    (_bill() | {"more": 1}, 422, "unknown_parameter", "more"),
    (_bill(user_id="frozen"), 403, "account_frozen", ""),
    (_bill(amount="100"), 402, "insufficient_credit", ""),
    (_bill() | {"op": "hold"}, 400, "idempotency_key_required", "idempotency_key"),
    (_bill() | {"op": "topup"}, 400, "idempotency_key_required", "idempotency_key"),
    (_bill(user_id="closed") | {"op": "topup", "idempotency_key": "k"}, 409, "account_closed", ""),
    ({"op": "amend_hold", "body": {}}, 422, "invalid_value", "hold_id"),
    ({"op": "amend_hold", "hold_id": "{ended}", "body": {}}, 409, "hold_ended", ""),
    ({"op": "amend_hold", "hold_id": "a\x00", "body": {}}, 404, "hold_not_found", ""),
    ({"op": "release_hold", "hold_id": "{hold}", "body": {}}, 422, "invalid_value", "body"),
    ({"op": "release_hold", "hold_id": SQL}, 404, "hold_not_found", ""),
    (_refund("{charge}"), 400, "idempotency_key_required", "idempotency_key"),
    (_refund("{spent}", idempotency_key="k2"), 409, "already_refunded", ""),
    (_refund("a\x00", idempotency_key="k3"), 404, "transaction_not_found", ""),
)


def test_items_of_a_batch(world: World) -> None:
    """Each has a problem of its own, in its place."""
    before = world.figures()
    response = world.send(
        Bad(
            "POST", "/batch", json.dumps({"operations": [item for item, *_rest in _ITEMS]}), 200, ""
        )
    )
    assert response.status_code == 200
    results = response.json()["results"]
    for (item, status, code, field), result in zip(_ITEMS, results, strict=True):
        body = result["body"]
        assert (result["status"], body["status"], body["code"]) == (status, status, code), item
        assert [error["field"] for error in body.get("errors", [])] == [field] * bool(field), item
        assert result["replayed"] is False
    assert world.figures() == before
