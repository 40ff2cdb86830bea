"""Streams of rows: grouped, and brought together, without holding all of them."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncConnection

_ROWS_PER_FETCH = 1000

Row = Sequence[Any]
Key = Callable[[Row], Any]


async def streamed(
    connection: AsyncConnection, query: Select[Any], parameters: Mapping[str, Any]
) -> AsyncIterator[Row]:
    """Read the rows of a query, some at a time."""
    async with connection.stream(query, parameters) as result:
        async for partition in result.partitions(_ROWS_PER_FETCH):
            for row in partition:
                yield row


async def grouped(stream: AsyncIterator[Row], *, key: Key) -> AsyncIterator[list[Row]]:
    """Yield neighbours with the same key together."""
    group: list[Row] = []
    async for row in stream:
        if group and key(group[0]) != key(row):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


async def merged(
    left: AsyncIterator[Row],
    right: AsyncIterator[Row],
    *,
    left_key: Key,
    right_key: Key,
) -> AsyncIterator[tuple[Row | None, list[Row]]]:
    """Yield each left row with all right rows of its key; None where there is no left row.

    Both come in the order of their keys, and the left ones have a key of their own each.
    """
    groups = grouped(right, key=right_key)
    group = await anext(groups, None)
    async for row in left:
        while group is not None and right_key(group[0]) < left_key(row):
            yield None, group
            group = await anext(groups, None)
        if group is not None and right_key(group[0]) == left_key(row):
            yield row, group
            group = await anext(groups, None)
        else:
            yield row, []
    while group is not None:
        yield None, group
        group = await anext(groups, None)
