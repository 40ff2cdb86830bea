"""`/accounts`: balances, lots and the journal of each account."""

import base64
import binascii
import re

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from credits_service.api.account_body import account_body, account_summary
from credits_service.api.hold_body import hold_body
from credits_service.api.openapi import documented, query_parameter
from credits_service.api.paging import (
    CURSOR,
    LIMIT,
    account_id,
    bad_cursor,
    is_part_of_id,
    moment_parameter,
)
from credits_service.api.problems import account_unknown, invalid, problem_of
from credits_service.api.requests import is_user_id, optional_moment, page_limit
from credits_service.api.responses import json_response
from credits_service.api.services import services_of
from credits_service.api.wire import AccountResponse
from credits_service.api.wire_reads import AccountPage, BalanceAt, HoldPage
from credits_service.core.moments import rfc3339
from credits_service.core.money import usd_from_nanos
from credits_service.db.periods import balance_after, last_seq, seq_at
from credits_service.ledger.charges import KEY_UNKNOWN
from credits_service.ledger.view import as_of
from credits_service.middleware.auth import READ, authorized

router = APIRouter(prefix="/accounts", tags=["accounts"])

_AT = moment_parameter("at", "Only the balance, as it was at this moment.")
_STATUS = query_parameter("status", {"enum": ["active"]}, "Only those that reserve credit.")
_KEY = query_parameter(
    "key_id", {"type": "string"}, "Also what this issued key, one of the account's, may spend."
)
_ID = re.compile(r"[0-9a-f-]{36}")


@router.get(
    "",
    summary="List accounts",
    **documented(response=AccountPage, problems=(403, 422), parameters=[LIMIT, CURSOR]),
)
async def list_accounts(request: Request) -> Response:
    """List accounts in order of their user ids, with their figures as last booked."""
    authorized(request, READ)
    limit = page_limit(request)
    after = _user_id_from(request.query_params.get("cursor"))
    found, now_micros = await services_of(request).queries.accounts(after, limit + 1)
    page = found[:limit]
    cursor = _cursor_of(page[-1].user_id) if len(found) > limit else None
    return json_response(
        AccountPage([account_summary(account, now_micros) for account in page], cursor)
    )


@router.get(
    "/{user_id:path}/holds",
    summary="List an account's holds, newest first",
    **documented(response=HoldPage, problems=(404, 422), parameters=[LIMIT, CURSOR, _STATUS]),
)
async def list_holds(request: Request, user_id: str) -> Response:
    """List holds as last booked: one that is due counts as active until it is settled."""
    if is_part_of_id(request, "holds"):
        return await read_account(request, f"{user_id}/holds")
    authorized(request, READ)
    limit = page_limit(request)
    status = request.query_params.get("status")
    if status not in {None, "active"}:
        raise invalid("status", "must be active, or missing for all")
    before = request.query_params.get("cursor")
    if before is not None and not _ID.fullmatch(before):
        raise bad_cursor()
    found = await services_of(request).queries.holds(
        account_id(user_id), before=before, limit=limit + 1, only_active=status is not None
    )
    if found is None:
        raise account_unknown(user_id)
    page = found[:limit]
    following = page[-1].id if len(found) > limit else None
    return json_response(HoldPage(list(map(hold_body, page)), following))


@router.get(
    "/{user_id:path}",
    summary="Read an account",
    **documented(response=AccountResponse | BalanceAt, problems=(404, 422), parameters=[_AT, _KEY]),
)
async def read_account(request: Request, user_id: str) -> Response:
    """Show an account as it is at this moment, with its live lots in the order of use."""
    authorized(request, READ)
    at_micros = optional_moment("at", request.query_params.get("at"), in_query=True)
    if at_micros is not None:
        return await _balance_at(request, account_id(user_id), at_micros)
    key_id = request.query_params.get("key_id")
    if key_id is not None and not _ID.fullmatch(key_id):
        raise problem_of(KEY_UNKNOWN)
    queries = services_of(request).queries
    snapshot = await queries.account(user_id, key_id) if is_user_id(user_id) else None
    if snapshot is None:
        raise account_unknown(user_id)
    state = as_of(snapshot.state, snapshot.now_micros)
    key = state.key(key_id)
    if key is None and key_id is not None:
        raise problem_of(KEY_UNKNOWN)
    return json_response(account_body(state, snapshot.now_micros, key))


async def _balance_at(request: Request, user_id: str, at_micros: int) -> Response:
    async with services_of(request).queries.connection() as connection:
        last = await last_seq(connection, user_id)
        if last is None:
            raise account_unknown(user_id)
        seq = await seq_at(connection, user_id, last, at_micros)
        nanos = await balance_after(connection, user_id, seq)
    return json_response(BalanceAt(user_id, rfc3339(at_micros), usd_from_nanos(nanos), seq))


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
