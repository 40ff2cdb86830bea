"""What was remembered before an upgrade is known after it."""

import hashlib

import pytest

from credits.drivers import RulesDriver
from credits_service.ledger.batch import Command
from credits_service.ledger.idempotency import IdempotencyKey, Remembered
from credits_service.ledger.operations import Charge, Operation, PlaceHold, TopUp

KEY = IdempotencyKey("tester", "k")
ORDERED = Charge("ann", 5, metadata='{"a":{"c":1,"d":[2,1]},"b":2}')
SHUFFLED = Charge("ann", 5, metadata='{"b":2,"a":{"d":[2,1],"c":1}}')

_SHUFFLED_BYTES = (
    b'{"type":"charge","user_id":"ann","amount_nanos":5,'
    b'"metadata":"{\\"b\\":2,\\"a\\":{\\"d\\":[2,1],\\"c\\":1}}"}'
)


def _run(driver: RulesDriver, operation: Operation) -> tuple[int, bool]:
    (result,) = driver.run([Command(operation, "tester", "req", KEY)])
    return result.status, result.replayed


@pytest.mark.parametrize(
    ("operation", "encoded"),
    [
        (SHUFFLED, _SHUFFLED_BYTES),
        (Charge("ann", 5), b'{"type":"charge","user_id":"ann","amount_nanos":5}'),
        (
            PlaceHold("ann", 5, ttl_micros=7),
            b'{"type":"hold","user_id":"ann","amount_nanos":5,"ttl_micros":7}',
        ),
        (TopUp("ann", 5), b'{"type":"topup","user_id":"ann","amount_nanos":5}'),
    ],
)
def test_a_retry_of_what_an_earlier_version_answered_is_replayed(
    operation: Operation, encoded: bytes
) -> None:
    """It remembered the hash of these bytes: documents in the order in which they came."""
    driver = RulesDriver()
    driver.remembered[KEY] = Remembered(hashlib.sha256(encoded).digest(), 200, b"{}")
    assert _run(driver, operation) == (200, True)


@pytest.mark.parametrize(("first", "again"), [(ORDERED, SHUFFLED), (SHUFFLED, ORDERED)])
def test_documents_are_compared_whatever_their_order(first: Operation, again: Operation) -> None:
    driver = RulesDriver()
    driver.run([Command(TopUp("ann", 100), "tester", "req")])
    assert _run(driver, first) == (200, False)
    assert _run(driver, again) == (200, True)
    assert _run(driver, Charge("ann", 5, metadata='{"a":{"c":1,"d":[1,2]},"b":2}')) == (422, False)
