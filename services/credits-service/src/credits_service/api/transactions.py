"""Transactions: an account's, page by page, and each by its id."""

import re
from typing import get_args

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api.accounts import read_account
from credits_service.api.openapi import documented, query_parameter
from credits_service.api.paging import CURSOR, LIMIT, account_id, bad_cursor, is_part_of_id
from credits_service.api.problems import account_unknown, invalid, transaction_unknown
from credits_service.api.requests import page_limit
from credits_service.api.responses import json_response
from credits_service.api.services import services_of
from credits_service.api.transaction_body import transaction_body
from credits_service.api.wire_reads import TransactionPage, TransactionResponse
from credits_service.ledger.journal import TransactionKind
from credits_service.middleware.auth import READ, authorized

router = APIRouter()

_KINDS: tuple[TransactionKind, ...] = get_args(TransactionKind)
_ORDER = query_parameter(
    "order", {"enum": ["desc", "asc"], "default": "desc"}, "Newest or oldest first."
)
_KIND = query_parameter(
    "kind",
    {"enum": list(_KINDS)},
    "Only these. A page may then be short, or empty: go on while `next_cursor` is not null.",
)


@router.get(
    "/accounts/{user_id:path}/transactions",
    summary="List an account's transactions",
    tags=["accounts"],
    **documented(
        response=TransactionPage,
        problems=(404, 422),
        parameters=[LIMIT, CURSOR, _ORDER, _KIND],
    ),
)
async def list_transactions(request: Request, user_id: str) -> Response:
    """List transactions by their number: pages never overlap or skip, whatever is booked."""
    if is_part_of_id(request, "transactions"):
        return await read_account(request, f"{user_id}/transactions")
    authorized(request, READ)
    limit = page_limit(request)
    cursor = _seq_from(request.query_params.get("cursor"))
    ascending = _is_ascending(request.query_params.get("order", "desc"))
    kind = _kind_from(request.query_params.get("kind"))
    found = await services_of(request).queries.transactions(
        account_id(user_id), cursor=cursor, limit=limit, ascending=ascending, kind=kind
    )
    if found is None:
        raise account_unknown(user_id)
    following = None if found.next_seq is None else str(found.next_seq)
    return json_response(TransactionPage(list(map(transaction_body, found.items)), following))


@router.get(
    "/transactions/{transaction_id}",
    summary="Read a transaction",
    tags=["accounts"],
    **documented(response=TransactionResponse, problems=(404,)),
)
async def read_transaction(request: Request, transaction_id: str) -> Response:
    """Show a transaction as it was booked: it never changes."""
    authorized(request, READ)
    if not transaction_id.isascii() or not transaction_id.isprintable():
        raise transaction_unknown(transaction_id)
    booked = await services_of(request).queries.transaction(transaction_id)
    if booked is None:
        raise transaction_unknown(transaction_id)
    fields = msgspec.structs.asdict(transaction_body(booked))
    return json_response(TransactionResponse(**fields, user_id=booked.user_id))


def _seq_from(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", cursor):
        raise bad_cursor()
    return int(cursor)


def _is_ascending(order: str) -> bool:
    if order not in {"asc", "desc"}:
        raise invalid("order", "must be asc or desc")
    return order == "asc"


def _kind_from(text: str | None) -> TransactionKind | None:
    if text is None:
        return None
    for kind in _KINDS:
        if kind == text:
            return kind
    raise invalid("kind", f"must be one of {', '.join(_KINDS)}")
