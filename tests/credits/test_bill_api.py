"""`POST /bill` over HTTP on both engines."""

import pytest

from credits.client import CreditsClient, assert_problem


def test_the_three_field_form_takes_credit(service: CreditsClient) -> None:
    service.top_up("ann", "100")
    response = service.bill("ann", "0.000625")
    assert response.status_code == 200
    body = response.json()
    assert body["amount"] == body["requested"] == "0.000625"
    assert body["balance"] == body["available"] == "99.999375"
    assert (body["held"], body["shortfall"], body["seq"], body["hold_id"]) == ("0", "0", 2, None)
    (_top_up, charge) = service.transactions("ann")
    assert charge["transaction_id"] == body["transaction_id"]
    assert charge["amount"] == "-0.000625"
    assert charge["balance_after"] == "99.999375"
    assert charge["description"] == "test"
    assert charge["request_id"] == response.headers["x-request-id"]
    service.assert_sound()


def test_more_than_is_available_is_402_and_leaves_nothing(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    body = assert_problem(service.bill("ann", "1.000000001"), 402, "insufficient_credit")
    assert (body["available"], body["required"]) == ("1", "1.000000001")
    assert body["retryable"] is False
    assert service.account("ann")["seq"] == 1
    assert service.bill("ann", "1").json()["available"] == "0"
    service.assert_sound()


def test_402_says_whether_waiting_helps(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    service.held("ann", "0.8")
    assert service.bill("ann", "0.9").json()["retryable"] is True
    assert service.bill("ann", "1.1").json()["retryable"] is False


def test_an_unknown_account_cannot_pay(service: CreditsClient) -> None:
    body = assert_problem(service.bill("nobody", "1"), 402, "insufficient_credit")
    assert (body["available"], body["retryable"]) == ("0", False)
    assert_problem(service.call("GET", "/accounts/nobody"), 404, "account_not_found")


def test_usage_price_and_metadata_are_kept_with_the_charge(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    usage = {"prompt_tokens": 3, "completion_tokens": 5}
    price = {"input_pico": 100, "output_pico": 400, "exact_cost_pico": 2300}
    metadata = {"model": "gemini-2.5-flash", "nested": {"ok": [1, 2.5, None]}}
    response = service.bill("ann", "0.000000003", usage=usage, price=price, metadata=metadata)
    assert response.status_code == 200
    charge = service.transactions("ann")[-1]
    assert (charge["usage"], charge["price"], charge["metadata"]) == (usage, price, metadata)
    service.assert_sound()


@pytest.mark.parametrize("cost", [2301, 3001, "2000", "x", True, 2.5, "9" * 30])
def test_an_exact_cost_that_does_not_round_up_to_the_amount_is_refused(
    service: CreditsClient, cost: object
) -> None:
    service.top_up("ann", "1")
    amount = "0.000000002" if cost == 2301 else "0.000000003"
    response = service.bill("ann", amount, price={"exact_cost_pico": cost})
    assert_problem(response, 422, "invalid_value", "price.exact_cost_pico")
    assert service.account("ann")["seq"] == 1


def test_a_key_is_charged_once_and_replayed_byte_for_byte(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    first = service.bill("ann", "0.4", key="k1")
    again = service.bill("ann", "0.4", key="k1")
    assert first.status_code == again.status_code == 200
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert service.account("ann")["balance"] == "0.6"
    service.assert_sound()


def test_the_same_request_written_differently_is_the_same_request(
    service: CreditsClient,
) -> None:
    service.top_up("ann", "1")
    service.bill("ann", "0.4", key="k1")
    again = service.bill("ann", "0.40", key="k1", final=True)
    assert again.headers["idempotency-replayed"] == "true"


def test_the_order_of_names_in_a_document_makes_no_other_request(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    first = service.bill("ann", "0.4", key="k1", metadata={"b": {"y": 1, "x": [1, 2]}, "a": None})
    again = service.bill("ann", "0.4", key="k1", metadata={"a": None, "b": {"x": [1, 2], "y": 1}})
    assert again.headers["idempotency-replayed"] == "true"
    assert again.content == first.content
    for metadata in ({"a": None, "b": {"x": [2, 1], "y": 1}}, {"a": None}, None):
        other = service.bill("ann", "0.4", key="k1", metadata=metadata)
        assert_problem(other, 422, "idempotency_key_reused", "Idempotency-Key")
    # The journal keeps it as it was sent first.
    stored = service.call("GET", "/accounts/ann/transactions?limit=1").text
    assert '"metadata":{"b":{"y":1,"x":[1,2]},"a":null}' in stored
    service.assert_sound()


def test_a_key_with_another_body_is_refused_and_charges_nothing(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    service.bill("ann", "0.4", key="k1")
    response = service.bill("ann", "0.5", key="k1")
    assert_problem(response, 422, "idempotency_key_reused", "Idempotency-Key")
    assert service.account("ann")["balance"] == "0.6"


def test_a_402_is_remembered_too(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    first = service.bill("ann", "2", key="k1")
    service.top_up("ann", "10")
    again = service.bill("ann", "2", key="k1")
    assert (again.status_code, again.content) == (402, first.content)
    assert again.headers["content-type"] == "application/problem+json"
    assert service.account("ann")["balance"] == "11"


def test_other_refusals_are_not_remembered(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    hold_id = service.held("ann", "0.5")["hold_id"]
    wrong = service.bill("ann", "0.1", key="k1", hold_id="unknown")
    assert_problem(wrong, 404, "hold_not_found")
    assert service.bill("ann", "0.1", key="k1", hold_id=hold_id).status_code == 200


def test_without_a_key_each_request_is_one_charge(service: CreditsClient) -> None:
    service.top_up("ann", "1")
    service.bill("ann", "0.4")
    service.bill("ann", "0.4")
    assert service.account("ann")["balance"] == "0.2"
    service.assert_sound()
