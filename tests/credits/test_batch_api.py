"""`POST /batch`: each operation is decided and answered by itself."""

from collections.abc import Sequence
from typing import Any

import pytest

from credits.client import ADMIN_KEY, SERVICE_KEY, CreditsClient, Json, assert_problem
from credits_service.core.errors import LedgerUnavailableError
from credits_service.ledger.batch import Command, Result
from credits_service.ledger.operations import Charge
from credits_service.ledger.writer import DuplicateInFlightError, Writer


def _batch(client: CreditsClient, *operations: Any, api_key: str = ADMIN_KEY) -> list[Json]:
    body = {"operations": list(operations)}
    response = client.call("POST", "/batch", body, api_key=api_key)
    assert response.status_code == 200, response.text
    results: list[Json] = response.json()["results"]
    assert len(results) == len(operations)
    return results


def _bill(amount: str, key: str | None = None, user_id: str = "ann") -> Json:
    body = {"user_id": user_id, "amount": amount, "description": "x"}
    return {"op": "bill", "body": body} | ({} if key is None else {"idempotency_key": key})


def test_all_operations_answer_as_their_endpoints_do(service: CreditsClient) -> None:
    service.top_up("ann", "10")
    hold = service.held("ann", "1")["hold_id"]
    charge = service.bill("ann", "1").json()["transaction_id"]
    results = _batch(
        service,
        {"op": "topup", "idempotency_key": "t", "body": {"user_id": "bob", "amount": "3"}},
        {"op": "hold", "idempotency_key": "h", "body": {"user_id": "ann", "amount": "2"}},
        {"op": "amend_hold", "hold_id": hold, "body": {"amount": "1.5"}},
        {"op": "release_hold", "hold_id": hold},
        {
            "op": "refund",
            "transaction_id": charge,
            "idempotency_key": "r",
            "body": {"reason": "why"},
        },
        _bill("0.25", "b"),
    )
    assert [result["status"] for result in results] == [201, 201, 200, 200, 201, 200]
    assert not any(result["replayed"] for result in results)
    bodies = [result["body"] for result in results]
    assert (bodies[0]["user_id"], bodies[0]["amount"]) == ("bob", "3")
    assert (bodies[1]["status"], bodies[2]["amount"], bodies[3]["status"]) == (
        "active",
        "1.5",
        "released",
    )
    assert bodies[4]["reverses_id"] == charge
    assert bodies[5]["amount"] == "0.25"
    service.assert_sound()


def test_one_that_fails_stops_no_other(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    results = _batch(
        service,
        _bill("0.5"),
        _bill("9"),
        _bill("-1"),
        7,
        {"op": "steal"},
        {"op": "bill"},
        {"op": "bill", "hold_id": "x", "body": {}},
        {"op": "bill", "body": {"user_id": "ann"}},
        {"op": "hold", "body": {"user_id": "ann", "amount": "1"}},
        {"op": "release_hold"},
        {"op": "release_hold", "hold_id": "nobody"},
        {"op": "release_hold", "hold_id": "nobody", "body": {}},
        _bill("0.1", "no key\n"),
        _bill("0.5"),
    )
    told = [
        (result["status"], result["body"].get("code"), *(e["field"] for e in errors))
        for result in results
        for errors in [result["body"].get("errors", [])]
    ]
    assert told == [
        (200, None),
        (402, "insufficient_credit"),
        (422, "invalid_amount", "amount"),
        (422, "invalid_type"),
        (422, "invalid_value", "op"),
        (422, "invalid_value", "body"),
        (422, "invalid_value", "hold_id"),
        (422, "missing_required_parameter", "amount"),
        (400, "idempotency_key_required", "idempotency_key"),
        (422, "invalid_value", "hold_id"),
        (404, "hold_not_found"),
        (422, "invalid_value", "body"),
        (422, "invalid_value", "idempotency_key"),
        (200, None),
    ]
    assert service.account("ann")["balance"] == "0"
    service.assert_sound()


def test_each_operation_may_have_a_request_id_of_its_own(service: CreditsClient) -> None:
    """Callers that share a batch find theirs in the journal; the others have the batch's."""
    service.top_up("ann", "10")
    body = {"operations": [{**_bill("1"), "request_id": "req_own.1"}, _bill("2")]}
    answer = service.call("POST", "/batch", body)
    booked = service.call("GET", "/accounts/ann/transactions").json()["transactions"]
    ids = {row["amount"]: row["request_id"] for row in booked if row["kind"] == "charge"}
    assert ids == {"-1": "req_own.1", "-2": answer.headers["x-request-id"]}
    for bad in ("", "a b", "a\n", "x" * 129):
        result = _batch(service, {**_bill("1"), "request_id": bad})[0]
        assert (result["status"], result["body"]["errors"][0]["field"]) == (422, "request_id")
    service.assert_sound()


def test_rights_are_those_of_each_operation(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    topup = {"op": "topup", "idempotency_key": "t", "body": {"user_id": "ann", "amount": "3"}}
    refund = {"op": "refund", "transaction_id": "x", "body": {"reason": "y"}}
    results = _batch(service, topup, _bill("0.5"), refund, api_key=SERVICE_KEY)
    assert [result["status"] for result in results] == [403, 200, 403]
    assert service.account("ann")["balance"] == "0.5"


def test_a_key_is_remembered_across_batches_and_single_requests(service: CreditsClient) -> None:
    service.top_up("ann", "10")
    first = _batch(service, _bill("1", "a"), _bill("1", "b"), _bill("1", "a"), _bill("2", "b"))
    assert [result["status"] for result in first] == [200, 200, 200, 422]
    assert [result["replayed"] for result in first] == [False, False, True, False]
    assert first[2]["body"] == first[0]["body"]
    again = _batch(service, _bill("1", "b"))
    assert (again[0]["replayed"], again[0]["body"]) == (True, first[1]["body"])
    body = {"user_id": "ann", "amount": "1", "description": "x"}
    single = service.call("POST", "/bill", body, key="a", api_key=ADMIN_KEY)
    assert single.headers["idempotency-replayed"] == "true"
    assert single.json() == first[0]["body"]
    assert service.account("ann")["balance"] == "8"
    service.assert_sound()


def test_a_key_that_was_used_otherwise_is_named_as_a_batch_names_it(
    service: CreditsClient,
) -> None:
    service.top_up("ann", "10")
    _batch(service, _bill("1", "a"))
    reused = _batch(service, _bill("2", "a"))[0]["body"]
    assert (reused["code"], reused["errors"][0]["field"]) == (
        "idempotency_key_reused",
        "idempotency_key",
    )
    body = {"user_id": "ann", "amount": "2"}
    single = service.call("POST", "/bill", body, key="a", api_key=ADMIN_KEY)
    assert_problem(single, 422, "idempotency_key_reused", "Idempotency-Key")


def test_an_item_says_when_to_try_again(
    service: CreditsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its own endpoint says in a header, which an item has not."""
    failures = (DuplicateInFlightError(), LedgerUnavailableError())

    async def submit_many(_writer: Writer, _commands: Sequence[Command]) -> list[Exception]:
        return [*failures, RuntimeError("nobody foresaw this")]

    async def submit(_writer: Writer, command: Command) -> Result:
        assert isinstance(command.operation, Charge)
        raise failures[command.operation.amount_nanos - 1]

    monkeypatch.setattr(Writer, "submit_many", submit_many)
    monkeypatch.setattr(Writer, "submit", submit)
    results = _batch(service, _bill("1"), _bill("1"), _bill("1"))
    told = [(each["status"], each["body"].get("retry_after_seconds")) for each in results]
    assert told == [(409, 1), (503, 1), (500, None)]
    for number, result in enumerate(results[:2], start=1):
        alone = service.bill("ann", f"0.00000000{number}")
        assert alone.headers["retry-after"] == "1"
        same = {"request_id": alone.headers["x-request-id"]}
        assert alone.json() == result["body"] | same


def test_a_full_batch_is_taken_and_one_more_is_not(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    results = _batch(service, *[_bill("0.001", f"k{n}") for n in range(500)])
    assert [result["body"]["seq"] for result in results] == list(range(2, 502))
    assert service.account("ann")["balance"] == "0.5"
    too_many = {"operations": [_bill("0.001")] * 501}
    response = service.call("POST", "/batch", too_many)
    assert_problem(response, 422, "invalid_value", "operations")
    service.assert_sound()


@pytest.mark.parametrize("body", [{}, {"operations": []}, {"operations": 1}])
def test_a_batch_without_operations_is_refused(service: CreditsClient, body: Json) -> None:
    response = service.call("POST", "/batch", body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "operations"
