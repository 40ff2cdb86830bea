"""Idempotency keys: which answers are remembered, and when one is replayed."""

import hashlib
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from credits_service.ledger.operations import Charge, Operation


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
# The header in which a request gives its key.
KEY_HEADER = "Idempotency-Key"
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode


def fingerprint(operation: Operation) -> bytes:
    """Return what tells two requests apart: the operation that the body asks for.

    In which order a document names things is no part of it: a retry may be written anew.
    """
    return _digest(_with_sorted_documents(operation))


def is_same_request(operation: Operation, known: Remembered) -> bool:
    """Whether an outcome is that of the same request.

    Earlier versions remembered documents in the order in which they were sent.
    """
    return known.fingerprint in {fingerprint(operation), _digest(operation)}


def _digest(operation: Operation) -> bytes:
    return hashlib.sha256(_encode(operation)).digest()


def _with_sorted_documents(operation: Operation) -> Operation:
    if not isinstance(operation, Charge):
        return operation
    return msgspec.structs.replace(
        operation,
        usage=_sorted(operation.usage),
        price=_sorted(operation.price),
        metadata=_sorted(operation.metadata),
    )


def _sorted(document: str | None) -> str | None:
    return None if document is None else _encode_sorted(_decode(document)).decode()


def is_remembered(status: int) -> bool:
    """Whether an answer is final: success, or proof that the account can't pay."""
    return _SUCCESS[0] <= status < _SUCCESS[1] or status == _PAYMENT_REQUIRED
