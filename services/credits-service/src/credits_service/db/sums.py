"""Exact sums of amounts: SQLite's own refuses what a 64-bit integer can't hold."""

from typing import Any

from sqlalchemy import ColumnElement, func

_PART = 1_000_000_000


def sum_in_parts(column: ColumnElement[int]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Return the columns to select for `sum_of`: the sums of quotients and of remainders."""
    return func.sum(column // _PART), func.sum(column % _PART)


def sum_of(quotients: int | None, remainders: int | None) -> int:
    """Put a sum together; that of no rows is 0."""
    return int(quotients or 0) * _PART + int(remainders or 0)
