"""Refunds: back into the lots that the charge took from, never more than it took."""

import uuid
from typing import Any

import httpx
import msgspec
import pytest

from credits.client import ADMIN_KEY, CreditsClient, Json, assert_problem
from credits.drivers import RulesDriver
from credits_service.core.money import MAX_NANOS
from credits_service.ledger.batch import Command
from credits_service.ledger.operations import (
    AmendHold,
    ChangeAccount,
    Charge,
    Operation,
    PlaceHold,
    Refund,
    SettleDue,
    TopUp,
)

HOUR = 3_600_000_000


class Ledger:
    """The rules, asked one thing at a time."""

    def __init__(self) -> None:
        self.driver = RulesDriver()

    def do(self, operation: Operation, status: int = 0) -> dict[str, Any]:
        (result,) = self.driver.run([Command(operation, "tester", "req")])
        assert result.status == status or (not status and result.status < 300), result.body
        body: dict[str, Any] = msgspec.json.decode(result.body)
        return body

    def charged(self, amount: int, **fields: Any) -> str:
        return str(self.do(Charge("ann", amount, **fields))["transaction_id"])

    def left(self) -> list[int]:
        return [lot.remaining_nanos for lot in self.driver.states["ann"].lots.values()]

    def assert_sound(self) -> None:
        assert self.driver.violations() == []


@pytest.fixture
def ledger() -> Ledger:
    """An account with two lots of 100, of which the first is used first."""
    ledger = Ledger()
    for priority in (1, 2):
        ledger.do(TopUp("ann", 100, priority=priority))
    return ledger


def test_in_parts_until_nothing_is_left(ledger: Ledger) -> None:
    charge = ledger.charged(150)
    body = ledger.do(Refund(charge, "half", 70), 201)
    assert (body["amount"], body["refunded"], body["refundable"]) == (
        "0.00000007",
        "0.00000007",
        "0.00000008",
    )
    # What was used last comes back first.
    assert ledger.left() == [20, 100]
    problem = ledger.do(Refund(charge, "too much", 81), 422)
    assert problem["errors"][0]["field"] == "amount"
    ledger.do(Refund(charge, "the rest"), 201)
    assert ledger.left() == [100, 100]
    assert ledger.do(Refund(charge, "again"), 409)["code"] == "already_refunded"
    assert ledger.do(Refund(charge, "again", 1), 409)["code"] == "already_refunded"
    ledger.assert_sound()


def test_parts_of_one_batch_know_of_each_other(ledger: Ledger) -> None:
    charge = ledger.charged(150)
    commands = [Command(Refund(charge, "part", 80), "tester", "req") for _ in range(2)]
    assert [result.status for result in ledger.driver.run(commands)] == [201, 422]
    assert ledger.left() == [30, 100]
    ledger.assert_sound()


def test_into_a_lot_that_has_expired_it_expires_at_once() -> None:
    ledger = Ledger()
    expires_at = ledger.driver.clock() + HOUR
    ledger.do(TopUp("ann", 100, expires_at_micros=expires_at))
    charge = ledger.charged(60)
    ledger.driver.clock.micros += HOUR
    body = ledger.do(Refund(charge, "late"), 201)
    assert (body["amount"], body["balance"]) == ("0.00000006", "0")
    kinds = [transaction.kind for transaction in ledger.driver.transactions]
    assert kinds == ["topup", "charge", "lot_expiry", "refund", "lot_expiry"]
    ledger.assert_sound()


def test_of_captures_and_of_what_an_expiry_charged(ledger: Ledger) -> None:
    hold = ledger.do(PlaceHold("ann", 60, HOUR))["hold_id"]
    captured = ledger.charged(110, hold_id=hold, final=False)
    ledger.do(AmendHold(hold, progress_nanos=130))
    ledger.driver.clock.micros += HOUR
    ledger.do(SettleDue("ann"))
    expiry = ledger.driver.transactions[-1]
    assert (expiry.hold_id, expiry.amount_nanos) == (hold, -20)
    assert ledger.do(Refund(expiry.id, "cut off"), 201)["amount"] == "0.00000002"
    assert ledger.do(Refund(captured, "wrong"), 201)["amount"] == "0.00000011"
    assert ledger.left() == [100, 100]
    ledger.assert_sound()


def test_a_charge_that_took_nothing_has_nothing_to_refund(ledger: Ledger) -> None:
    hold = ledger.do(PlaceHold("ann", 200, HOUR))["hold_id"]
    ledger.charged(200, hold_id=hold, final=False)
    nothing = ledger.charged(5, hold_id=hold)
    assert ledger.do(Refund(nothing, "free"), 409)["code"] == "nothing_to_refund"
    assert ledger.do(Refund(nothing, "free", 1), 409)["code"] == "nothing_to_refund"
    ledger.assert_sound()


def test_of_anything_but_a_charge_it_is_refused(ledger: Ledger) -> None:
    refunded = ledger.do(Refund(ledger.charged(10), "wrong"), 201)["transaction_id"]
    ledger.do(ChangeAccount("ann", "frozen"))
    change, top_up = ledger.driver.transactions[-1], ledger.driver.transactions[0]
    for transaction_id in (refunded, change.id, top_up.id):
        assert ledger.do(Refund(transaction_id, "wrong"), 409)["code"] == "not_refundable"
    assert ledger.do(Refund("unknown", "wrong"), 404)["code"] == "transaction_not_found"
    ledger.assert_sound()


def test_a_frozen_account_takes_it_and_a_closed_one_does_not(ledger: Ledger) -> None:
    charge = ledger.charged(10)
    ledger.do(ChangeAccount("ann", "frozen"))
    ledger.do(Refund(charge, "part", 4), 201)
    ledger.do(ChangeAccount("ann", "closed", forfeit=True))
    assert ledger.do(Refund(charge, "rest"), 409)["code"] == "account_closed"
    ledger.assert_sound()


def test_a_balance_stays_within_what_can_be_kept(ledger: Ledger) -> None:
    charge = ledger.charged(10)
    ledger.do(TopUp("ann", MAX_NANOS - 190 - 5))
    assert ledger.do(TopUp("ann", 6), 422)["errors"][0]["field"] == "amount"
    assert ledger.do(Refund(charge, "wrong", 6), 422)["errors"][0]["field"] == "amount"
    ledger.do(Refund(charge, "wrong", 5), 201)
    ledger.assert_sound()


def _refund(
    client: CreditsClient, transaction_id: str, key: str | None = None, **body: Any
) -> httpx.Response:
    path = f"/transactions/{transaction_id}/refund"
    sent: Json = {"reason": "not what was asked for", **body}
    return client.call("POST", path, sent, key=key or uuid.uuid4().hex, api_key=ADMIN_KEY)


def test_over_http_it_is_a_transaction_that_names_what_it_reverses(service: CreditsClient) -> None:
    service.top_up("ann", "5")
    charge = service.bill("ann", "2").json()["transaction_id"]
    first = _refund(service, charge, key="k", amount="0.5")
    assert first.status_code == 201
    assert first.json() | {"balance": "3.5", "refunded": "0.5", "refundable": "1.5"} == first.json()
    again = _refund(service, charge, key="k", amount="0.5")
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert_problem(
        _refund(service, charge, key="k", amount="0.6"),
        422,
        "idempotency_key_reused",
        "Idempotency-Key",
    )
    booked = service.transactions("ann")[-1]
    assert booked["transaction_id"] == first.json()["transaction_id"]
    assert (booked["kind"], booked["reverses_id"]) == ("refund", charge)
    assert booked["description"] == "not what was asked for"
    assert_problem(_refund(service, booked["transaction_id"]), 409, "not_refundable")
    assert_problem(_refund(service, charge, amount="1.500000001"), 422, "invalid_value", "amount")
    assert _refund(service, charge).json()["amount"] == "1.5"
    assert_problem(_refund(service, charge), 409, "already_refunded")
    assert_problem(_refund(service, "unknown"), 404, "transaction_not_found")
    assert service.account("ann")["balance"] == "5"
    service.assert_sound()


def test_a_lot_that_was_used_up_is_filled_again(service: CreditsClient) -> None:
    service.top_up("ann", "2", priority=1)
    service.top_up("ann", "3", priority=2)
    charge = service.bill("ann", "5").json()["transaction_id"]
    assert _refund(service, charge, amount="3.5").status_code == 201
    assert [lot["remaining"] for lot in service.account("ann")["lots"]] == ["0.5", "3"]
    service.assert_sound()
