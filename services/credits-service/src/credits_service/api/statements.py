"""`/accounts/{user_id}/statement`: what happened in a period, from balance to balance."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from credits_service.api import csv_statement
from credits_service.api.accounts import read_account
from credits_service.api.openapi import documented, query_parameter
from credits_service.api.paging import (
    CURSOR,
    LIMIT,
    account_id,
    bad_cursor,
    from_cursor,
    is_part_of_id,
    moment_parameter,
    to_cursor,
)
from credits_service.api.problems import account_unknown, invalid
from credits_service.api.requests import MAX_PAGE, optional_moment, page_limit
from credits_service.api.responses import json_response
from credits_service.api.services import services_of
from credits_service.api.transaction_body import transaction_body
from credits_service.api.wire_reads import StatementResponse, StatementTotals
from credits_service.core.moments import (
    MAX_MICROS,
    MICROS_PER_SECOND,
    MIN_MICROS,
    micros_from_datetime,
    rfc3339,
)
from credits_service.core.money import usd_from_nanos
from credits_service.db.periods import (
    Span,
    booked_at,
    last_seq,
    page_of,
    span_of,
)
from credits_service.db.queries import LedgerQueries
from credits_service.db.statement_figures import Period
from credits_service.middleware.auth import READ, authorized

router = APIRouter(prefix="/accounts", tags=["accounts"])

_FORMAT = query_parameter(
    "format", {"enum": ["json", "csv"], "default": "json"}, "CSV is the whole period at once."
)
_FROM = moment_parameter("from", "Beginning; by default of the current month (UTC).")
_TO = moment_parameter("to", "End, exclusive; by default of the current month (UTC).")
_Seq = Annotated[int, Meta(ge=1, le=2**63 - 1)]
_Micros = Annotated[int, Meta(ge=MIN_MICROS, le=MAX_MICROS)]
# Beginning and end as the query gives them.
_Asked = tuple[int | None, int | None]


class _Place(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Where a page begins; the last number is fixed by the first page, whatever is booked later.

    Anybody can write one. So it says only what is asked for: all figures are found anew.
    """

    version: Literal[2]
    user_id: str
    from_micros: _Micros
    to_micros: _Micros
    after_seq: _Seq
    last_seq: _Seq

    @property
    def period(self) -> Period:
        return Period(self.user_id, self.from_micros, self.last_seq)


@router.get(
    "/{user_id:path}/statement",
    summary="Read an account's statement of a period",
    **documented(
        response=StatementResponse,
        further={"text/csv": {"type": "string"}},
        problems=(404, 422),
        parameters=[_FROM, _TO, _FORMAT, LIMIT, CURSOR],
    ),
)
async def read_statement(request: Request, user_id: str) -> Response:
    """Show what was booked in a period: opening balance and entries make the closing balance."""
    if is_part_of_id(request, "statement"):
        return await read_account(request, f"{user_id}/statement")
    authorized(request, READ)
    account_id(user_id)
    query = request.query_params
    is_csv = _is_csv(query.get("format", "json"))
    limit = page_limit(request)
    asked = (
        optional_moment("from", query.get("from"), in_query=True),
        optional_moment("to", query.get("to"), in_query=True),
    )
    queries = services_of(request).queries
    cursor = query.get("cursor")
    if cursor is None:
        place = await _first_place(queries, user_id, asked)
        return await (_csv(queries, place) if is_csv else _page(queries, place, limit))
    if is_csv:
        raise invalid("cursor", "does not belong to format=csv, which has no pages")
    place = _place_from(cursor, user_id, asked)
    await _check_place(queries, place)
    return await _page(queries, place, limit)


async def _first_place(queries: LedgerQueries, user_id: str, asked: _Asked) -> _Place:
    async with queries.connection() as connection:
        last = await last_seq(connection, user_id)
        if last is None:
            raise account_unknown(user_id)
        edges = _edges(asked, await queries.now(connection))
        span = await span_of(connection, user_id, last, *edges)
    return _Place(2, user_id, *edges, *span)


async def _check_place(queries: LedgerQueries, place: _Place) -> None:
    """Refuse a place that is not within the period, or names numbers that are not there.

    Raises:
        ServiceError: 422, no page gave this.
    """
    async with queries.connection() as connection:
        if place.last_seq > (await last_seq(connection, place.user_id) or 0):
            raise bad_cursor()
        if await booked_at(connection, place.user_id, place.last_seq) >= place.to_micros:
            raise bad_cursor()
        figures = await queries.statement_figures.of(connection, place.period)
        if not figures.opening_seq < place.after_seq < place.last_seq:
            raise bad_cursor()


async def _page(queries: LedgerQueries, place: _Place, limit: int) -> Response:
    span = Span(place.after_seq, place.last_seq)
    async with queries.connection() as connection:
        figures = await queries.statement_figures.of(connection, place.period)
        found = await page_of(connection, place.user_id, span, limit)
    following = None
    if found and found[-1].seq < place.last_seq:
        following = to_cursor(msgspec.structs.replace(place, after_seq=found[-1].seq))
    totals = {
        name: usd_from_nanos(figures.totals_nanos.get(name, 0))
        for name in StatementTotals.__struct_fields__
    }
    return json_response(
        StatementResponse(
            user_id=place.user_id,
            from_=rfc3339(place.from_micros),
            to=rfc3339(place.to_micros),
            opening_balance=usd_from_nanos(figures.opening_nanos),
            closing_balance=usd_from_nanos(figures.closing_nanos),
            totals=StatementTotals(**totals),
            transactions=list(map(transaction_body, found)),
            next_cursor=following,
        )
    )


async def _csv(queries: LedgerQueries, place: _Place) -> Response:
    pages = _csv_pages(queries, place)
    # Until the first page is read a failure is an answer of its own. Afterwards the connection
    # is cut, so that half a file can't be taken for a whole one.
    first = await anext(pages)

    async def body() -> AsyncIterator[bytes]:
        yield first
        async for page in pages:
            yield page

    name = csv_statement.disposition(place.user_id, place.from_micros, place.to_micros)
    headers = {"content-type": csv_statement.MEDIA_TYPE, "content-disposition": name}
    return StreamingResponse(body(), headers=headers)


async def _csv_pages(queries: LedgerQueries, place: _Place) -> AsyncIterator[bytes]:
    """Read page after page, each on a connection of its own: a client may be slow."""
    head = csv_statement.header()
    after = place.after_seq
    while True:
        async with queries.connection() as connection:
            span = Span(after, place.last_seq)
            found = await page_of(connection, place.user_id, span, MAX_PAGE)
        yield head + csv_statement.lines(found)
        head = b""
        if not found or found[-1].seq >= place.last_seq:
            return
        after = found[-1].seq


def _place_from(cursor: str, user_id: str, asked: _Asked) -> _Place:
    place = from_cursor(cursor, _Place)
    known = (place.from_micros, place.to_micros)
    is_other = any(new not in {None, old} for new, old in zip(asked, known, strict=True))
    if place.user_id != user_id or is_other:
        raise bad_cursor()
    return place


def _edges(asked: _Asked, now_micros: int) -> tuple[int, int]:
    """Return the moments of beginning and end; by default those of the current month."""
    now = datetime.fromtimestamp(now_micros / MICROS_PER_SECOND, UTC)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, index = divmod(month.year * 12 + month.month, 12)
    following = month.replace(year=year, month=index + 1)
    from_micros = micros_from_datetime(month) if asked[0] is None else asked[0]
    to_micros = micros_from_datetime(following) if asked[1] is None else asked[1]
    if from_micros > to_micros:
        raise invalid("from", "must not be after to")
    return from_micros, to_micros


def _is_csv(text: str) -> bool:
    if text not in {"json", "csv"}:
        raise invalid("format", "must be json or csv")
    return text == "csv"
