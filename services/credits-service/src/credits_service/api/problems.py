"""Errors as RFC 9457 problem details, and the problems that the rules' refusals are."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, assert_never

import msgspec

from credits_service.core.money import usd_from_nanos
from credits_service.ledger.answers import (
    AccountRefused,
    AccountUnknown,
    HoldEnded,
    HoldUnknown,
    Insufficient,
    KeyReused,
    NotClosable,
    NotRefundable,
    NotRefundableReason,
    ReferenceUsed,
    Refused,
    TransactionUnknown,
    Unacceptable,
)
from credits_service.ledger.spending import LimitName
from service_kit.errors import ServiceError

PROBLEM_JSON = "application/problem+json"
# Code and text of each reason for which nothing can be given back.
_NOT_REFUNDABLE: Mapping[NotRefundableReason, tuple[str, str]] = {
    "no_charge": ("not_refundable", "Only a charge can be refunded."),
    "took_nothing": (
        "nothing_to_refund",
        "This charge took no credit: all of it was a shortfall, or settled before.",
    ),
    "refunded": ("already_refunded", "Nothing of this charge is left to refund."),
}


class ProblemForm:
    """Writes an error as `application/problem+json`."""

    content_type = PROBLEM_JSON

    def render(self, error: ServiceError, request_id: str) -> bytes:
        """Return the body of the error response."""
        problem: dict[str, Any] = {
            "type": f"urn:problem:credits:{error.code}",
            "title": HTTPStatus(error.status).phrase,
            "status": error.status,
            "detail": error.message,
            "code": error.code,
            "request_id": request_id,
        }
        if error.field is not None:
            problem["errors"] = [{"field": error.field, "message": error.message}]
        if (pause := error.headers.get("retry-after")) is not None:
            problem["retry_after_seconds"] = int(pause)
        return msgspec.json.encode(problem | error.extra)


def invalid(field: str, reason: str, *, code: str = "invalid_value") -> ServiceError:
    """Return the problem of one field."""
    return ServiceError(f"{field} {reason}.", status=422, code=code, field=field)


def account_unknown(user_id: str) -> ServiceError:
    """Return the problem of an account that nobody has topped up."""
    return ServiceError(
        "There is no account with this user_id.",
        status=404,
        code="account_not_found",
        extra={"user_id": user_id},
    )


def hold_unknown(hold_id: str) -> ServiceError:
    """Return the problem of a hold that is not there."""
    return ServiceError(
        "There is no hold with this id on this account.",
        status=404,
        code="hold_not_found",
        extra={"hold_id": hold_id},
    )


def transaction_unknown(transaction_id: str) -> ServiceError:
    """Return the problem of a transaction that is not there."""
    return ServiceError(
        "There is no transaction with this id.",
        status=404,
        code="transaction_not_found",
        extra={"transaction_id": transaction_id},
    )


def problem_of(refusal: Refused) -> ServiceError:
    """Return the problem that a refusal of the rules is."""
    match refusal:
        case Insufficient():
            return _insufficient(refusal)
        case AccountRefused() | AccountUnknown() | NotClosable():
            return _account_refused(refusal)
        case HoldUnknown() | HoldEnded():
            return _hold_refused(refusal)
        case TransactionUnknown() | NotRefundable():
            return _refund_refused(refusal)
        case KeyReused() | ReferenceUsed() | Unacceptable():
            return _request_refused(refusal)
        case _:
            assert_never(refusal)


def _account_refused(refusal: AccountRefused | AccountUnknown | NotClosable) -> ServiceError:
    if isinstance(refusal, AccountUnknown):
        return account_unknown(refusal.user_id)
    if isinstance(refusal, NotClosable):
        return _not_closable(refusal)
    return ServiceError(
        f"The account is {refusal.status}.",
        status=409 if refusal.status == "closed" else 403,
        code=f"account_{refusal.status}",
        extra={"user_id": refusal.user_id},
    )


def _not_closable(refusal: NotClosable) -> ServiceError:
    held, balance = usd_from_nanos(refusal.held_nanos), usd_from_nanos(refusal.balance_nanos)
    if refusal.held_nanos:
        code = "account_has_holds"
        message = f"Running requests hold {held} USD of the account. Close it when they have ended."
    else:
        code = "account_not_empty"
        message = (
            f"The account has {balance} USD left. Spend them, or close it with "
            '"forfeit": true, which books them as lost.'
        )
    return ServiceError(
        message,
        status=409,
        code=code,
        extra={"user_id": refusal.user_id, "balance": balance, "held": held},
    )


def _hold_refused(refusal: HoldUnknown | HoldEnded) -> ServiceError:
    if isinstance(refusal, HoldUnknown):
        return hold_unknown(refusal.hold_id)
    return ServiceError(
        f"The hold has ended: it is {refusal.status}.",
        status=409,
        code="hold_ended",
        extra={"hold_id": refusal.hold_id, "hold_status": refusal.status},
    )


def _refund_refused(refusal: TransactionUnknown | NotRefundable) -> ServiceError:
    if isinstance(refusal, TransactionUnknown):
        return transaction_unknown(refusal.transaction_id)
    code, message = _NOT_REFUNDABLE[refusal.reason]
    return ServiceError(
        message, status=409, code=code, extra={"transaction_id": refusal.transaction_id}
    )


def _request_refused(refusal: KeyReused | ReferenceUsed | Unacceptable) -> ServiceError:
    if isinstance(refusal, KeyReused):
        return invalid(
            refusal.field, "was used with another request", code="idempotency_key_reused"
        )
    if isinstance(refusal, Unacceptable):
        return invalid(refusal.field, refusal.reason)
    return ServiceError(
        "A top-up with this reference is booked already.",
        status=409,
        code="reference_used",
        extra={"reference": refusal.reference},
    )


def _limit_text(limit: LimitName) -> str:
    period = limit.removeprefix("key_")
    return f"{period} limit" if period == limit else f"{period} limit of the key"


def _insufficient(refusal: Insufficient) -> ServiceError:
    available = usd_from_nanos(refusal.available_nanos)
    required = usd_from_nanos(refusal.required_nanos)
    extra: dict[str, Any] = {
        "user_id": refusal.user_id,
        "available": available,
        "required": required,
        "retryable": refusal.retryable,
    }
    if refusal.limit is None:
        code, what = "insufficient_credit", f"has {available} USD available"
        way_out = "Only a top-up helps."
    else:
        code, what = (
            "spend_limit_reached",
            f"may spend {available} USD more ({_limit_text(refusal.limit)})",
        )
        way_out = "Only time or a higher limit helps."
        extra["limit"] = refusal.limit
    if refusal.retryable:
        way_out = "Credit that running requests hold may become available."
    return ServiceError(
        f"The account {what} and {required} USD are required. {way_out}",
        status=402,
        code=code,
        extra=extra,
    )
