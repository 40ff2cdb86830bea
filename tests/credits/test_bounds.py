"""Nothing is too much: due holds, sums of spending, depth of documents."""

import msgspec
import pytest

from credits.client import CreditsClient, assert_problem
from credits.drivers import RulesDriver, WriterDriver
from credits_service.api.requests import MAX_DOCUMENT_DEPTH
from credits_service.core.moments import MAX_MICROS, MIN_MICROS, rfc3339
from credits_service.core.money import MAX_NANOS
from credits_service.db import load_queries
from credits_service.ledger.batch import Command
from credits_service.ledger.operations import Charge, Operation, PlaceHold, Refund, TopUp


def _run(driver: RulesDriver | WriterDriver, operation: Operation) -> dict[str, object]:
    (result,) = driver.run([Command(operation, "tester", "req")])
    assert result.status in {200, 201}, result.body
    body: dict[str, object] = msgspec.json.decode(result.body)
    return body


def test_many_due_holds_are_settled_some_in_each_batch(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_queries, "DUE_HOLDS_MAX", 3)
    driver = WriterDriver(ledger_url)
    try:
        _run(driver, TopUp("ann", 100))
        for _ in range(7):
            _run(driver, PlaceHold("ann", 10, ttl_micros=5))
        driver.clock.micros += 10

        held = [_run(driver, Charge("ann", 1))["held"] for _ in range(4)]

        assert held == ["0.00000004", "0.00000001", "0", "0"]
        assert driver.violations() == []
    finally:
        driver.close()


def test_what_is_refunded_can_be_spent_again_beyond_the_largest_sum() -> None:
    driver = RulesDriver()
    _run(driver, TopUp("ann", MAX_NANOS))
    for _ in range(3):
        charged = _run(driver, Charge("ann", MAX_NANOS))
        _run(driver, Refund(str(charged["transaction_id"]), "again"))
    assert driver.states["ann"].account.spent_total_nanos == MAX_NANOS
    assert driver.violations() == []


def test_captures_of_a_hold_may_ask_for_more_than_can_be_counted() -> None:
    driver = RulesDriver()
    _run(driver, TopUp("ann", 100))
    hold_id = str(_run(driver, PlaceHold("ann", 10, ttl_micros=1_000))["hold_id"])
    _run(driver, Charge("ann", MAX_NANOS, hold_id=hold_id, final=False))
    _run(driver, Charge("ann", 5, hold_id=hold_id))
    assert driver.states["ann"].holds[hold_id].used_nanos == MAX_NANOS
    assert driver.violations() == []


def test_moments_are_written_with_four_digits_of_year() -> None:
    assert rfc3339(MIN_MICROS) == "0001-01-01T00:00:00.000000Z"
    assert rfc3339(MAX_MICROS) == "9999-12-31T23:59:59.999999Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"


def _nested(levels: int) -> dict[str, object]:
    document: dict[str, object] = {}
    for _ in range(levels - 1):
        document = {"x": document}
    return document


def test_a_document_that_is_nested_too_deep_is_refused_and_others_are_read_back(
    service: CreditsClient,
) -> None:
    service.top_up("ann", "1")

    refused = service.bill("ann", "0.1", usage=_nested(MAX_DOCUMENT_DEPTH + 1))
    taken = service.bill("ann", "0.1", usage=_nested(MAX_DOCUMENT_DEPTH))

    assert_problem(refused, 422, "invalid_value", "usage")
    assert taken.status_code == 200
    (_top_up, charge) = service.transactions("ann")
    assert charge["usage"] == _nested(MAX_DOCUMENT_DEPTH)
    assert charge["metadata"] is None
