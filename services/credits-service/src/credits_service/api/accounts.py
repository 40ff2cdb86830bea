"""`/accounts`: balances, lots and the journal of each account."""

import base64
import binascii
import re
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api import wire
from credits_service.api.openapi import documented, query_parameter
from credits_service.api.problems import account_unknown, invalid
from credits_service.api.render import moment_or_none
from credits_service.api.requests import MAX_PAGE, is_user_id, page_limit
from credits_service.api.responses import json_response
from credits_service.api.services import services_of
from credits_service.core.moments import rfc3339
from credits_service.core.money import usd_from_nanos
from credits_service.ledger.journal import Transaction
from credits_service.ledger.lots import order_of
from credits_service.ledger.state import Account, Lot
from credits_service.ledger.view import as_of
from credits_service.middleware.auth import READ, authorized

router = APIRouter(prefix="/accounts", tags=["accounts"])

_LIMIT = query_parameter(
    "limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 50}, "Page size."
)
_CURSOR = query_parameter("cursor", {"type": "string"}, "`next_cursor` of the page before.")
_ORDER = query_parameter(
    "order", {"enum": ["desc", "asc"], "default": "desc"}, "Newest or oldest first."
)


@router.get(
    "",
    summary="List accounts",
    **documented(response=wire.AccountPage, problems=(403, 422), parameters=[_LIMIT, _CURSOR]),
)
async def list_accounts(request: Request) -> Response:
    """List accounts in order of their user ids, with their figures as last booked."""
    authorized(request, READ)
    limit = page_limit(request)
    after = _user_id_from(request.query_params.get("cursor"))
    found = await services_of(request).queries.accounts(after, limit + 1)
    page = found[:limit]
    cursor = _cursor_of(page[-1].user_id) if len(found) > limit else None
    return json_response(wire.AccountPage([_summary(account) for account in page], cursor))


@router.get(
    "/{user_id:path}/transactions",
    summary="List an account's transactions",
    **documented(
        response=wire.TransactionPage,
        problems=(404, 422),
        parameters=[_LIMIT, _CURSOR, _ORDER],
    ),
)
async def list_transactions(request: Request, user_id: str) -> Response:
    """List transactions by their number: pages never overlap or skip, whatever is booked."""
    authorized(request, READ)
    limit = page_limit(request)
    cursor = _seq_from(request.query_params.get("cursor"))
    ascending = _is_ascending(request.query_params.get("order", "desc"))
    queries = services_of(request).queries
    if not is_user_id(user_id) or not await queries.has_account(user_id):
        raise account_unknown(user_id)
    found = await queries.transactions(user_id, cursor=cursor, limit=limit + 1, ascending=ascending)
    page = found[:limit]
    following = str(page[-1].seq) if len(found) > limit else None
    return json_response(wire.TransactionPage([_transaction(item) for item in page], following))


@router.get(
    "/{user_id:path}",
    summary="Read an account",
    **documented(response=wire.AccountResponse, problems=(404,)),
)
async def read_account(request: Request, user_id: str) -> Response:
    """Show an account as it is at this moment, with its live lots in the order of use."""
    authorized(request, READ)
    queries = services_of(request).queries
    snapshot = await queries.account(user_id) if is_user_id(user_id) else None
    if snapshot is None:
        raise account_unknown(user_id)
    state = as_of(snapshot.state, snapshot.now_micros)
    live = sorted((lot for lot in state.lots.values() if lot.remaining_nanos), key=order_of)
    figures = msgspec.structs.asdict(_summary(state.account))
    return json_response(wire.AccountResponse(**figures, lots=[_lot(lot) for lot in live]))


def _summary(account: Account) -> wire.AccountSummary:
    return wire.AccountSummary(
        user_id=account.user_id,
        status=account.status,
        unit="USD",
        balance=usd_from_nanos(account.balance_nanos),
        held=usd_from_nanos(account.held_nanos),
        available=usd_from_nanos(account.available_nanos),
        shortfall=usd_from_nanos(account.shortfall_nanos),
        seq=account.seq,
        created_at=rfc3339(account.created_at_micros),
        updated_at=rfc3339(account.updated_at_micros),
    )


def _lot(lot: Lot) -> wire.LotBody:
    return wire.LotBody(
        lot_id=lot.id,
        source=lot.source,
        priority=lot.priority,
        granted=usd_from_nanos(lot.granted_nanos),
        remaining=usd_from_nanos(lot.remaining_nanos),
        held=usd_from_nanos(lot.held_nanos),
        expires_at=moment_or_none(lot.expires_at_micros),
        created_at=rfc3339(lot.created_at_micros),
        reference=lot.reference,
    )


def _transaction(booked: Transaction) -> wire.TransactionBody:
    requested = booked.requested_nanos
    return wire.TransactionBody(
        transaction_id=booked.id,
        seq=booked.seq,
        kind=booked.kind,
        amount=usd_from_nanos(booked.amount_nanos),
        balance_after=usd_from_nanos(booked.balance_after_nanos),
        held_after=usd_from_nanos(booked.held_after_nanos),
        booked_at=rfc3339(booked.booked_at_micros),
        description=booked.description,
        hold_id=booked.hold_id,
        reverses_id=booked.reverses_id,
        requested=None if requested is None else usd_from_nanos(requested),
        settled_before=usd_from_nanos(booked.settled_before_nanos),
        shortfall=usd_from_nanos(booked.shortfall_nanos),
        lots=[
            wire.LotUseBody(use.lot_id, usd_from_nanos(use.nanos), use.from_hold)
            for use in booked.lots
        ],
        usage=_document(booked.usage),
        price=_document(booked.price),
        metadata=_document(booked.metadata),
        request_id=booked.request_id,
    )


def _document(text: str | None) -> dict[str, Any] | None:
    return None if text is None else msgspec.json.decode(text, type=dict[str, Any])


def _cursor_of(user_id: str) -> str:
    return base64.urlsafe_b64encode(user_id.encode()).decode()


def _user_id_from(cursor: str | None) -> str | None:
    if cursor is None:
        return None
    try:
        user_id = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        user_id = ""
    if not user_id or "\x00" in user_id:
        raise invalid("cursor", "must be the next_cursor of a page")
    return user_id


def _seq_from(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", cursor):
        raise invalid("cursor", "must be the next_cursor of a page")
    return int(cursor)


def _is_ascending(order: str) -> bool:
    if order not in {"asc", "desc"}:
        raise invalid("order", "must be asc or desc")
    return order == "asc"
