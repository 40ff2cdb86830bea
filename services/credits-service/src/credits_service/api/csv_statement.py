"""Statements as CSV (RFC 4180), in UTF-8, safe to open in a spreadsheet."""

import csv
import io
import re
from collections.abc import Iterable

from credits_service.core.moments import rfc3339
from credits_service.core.money import usd_from_nanos
from credits_service.ledger.journal import Transaction

MEDIA_TYPE = "text/csv; charset=utf-8"
_HEADER = (
    *("transaction_id", "seq", "booked_at", "kind", "amount", "balance_after"),
    *("description", "hold_id", "reverses_id", "request_id"),
)
# A spreadsheet would take a cell that begins so for a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_MAX_NAME = 64


def header() -> bytes:
    """Write the first line."""
    return _lines([_HEADER])


def lines(transactions: Iterable[Transaction]) -> bytes:
    """Write a line for each transaction; amounts are plain decimals in USD."""
    return _lines(
        (
            booked.id,
            booked.seq,
            rfc3339(booked.booked_at_micros),
            booked.kind,
            usd_from_nanos(booked.amount_nanos),
            usd_from_nanos(booked.balance_after_nanos),
            _text(booked.description),
            booked.hold_id,
            booked.reverses_id,
            _text(booked.request_id),
        )
        for booked in transactions
    )


def disposition(user_id: str, from_micros: int, to_micros: int) -> str:
    """Return the header that names the file: of harmless characters only."""
    user = re.sub(r"[^A-Za-z0-9_-]", "_", user_id)[:_MAX_NAME]
    days = "_".join(rfc3339(micros)[:10] for micros in (from_micros, to_micros))
    return f'attachment; filename="statement_{user}_{days}.csv"'


def _text(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _lines(table: Iterable[tuple[object, ...]]) -> bytes:
    written = io.StringIO(newline="")
    csv.writer(written).writerows(table)
    return written.getvalue().encode()
