"""Idempotency keys: which answers are remembered, and when one is replayed."""

import hashlib
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from credits_service.ledger.operations import Operation


class IdempotencyKey(NamedTuple):
    """A caller's key; the scope is the caller, so that callers can't meet by accident."""

    scope: str
    key: str


class Remembered(NamedTuple):
    """The one outcome of a key."""

    fingerprint: bytes
    status: int
    body: bytes


# Plain numbers: each look-up in an enumeration costs, and every answer passes here.
_PAYMENT_REQUIRED = HTTPStatus.PAYMENT_REQUIRED.value
_SUCCESS = (200, 300)
_encode = msgspec.json.Encoder().encode


def fingerprint(operation: Operation) -> bytes:
    """Return what tells two requests apart: the operation that the body asks for."""
    return hashlib.sha256(_encode(operation)).digest()


def is_remembered(status: int) -> bool:
    """Whether an answer is final: success, or proof that the account can't pay."""
    return _SUCCESS[0] <= status < _SUCCESS[1] or status == _PAYMENT_REQUIRED
