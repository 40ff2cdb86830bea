"""The end of the process while the outbox delivers."""

import asyncio

import pytest

from support.billing_bench import Parts


@pytest.mark.parametrize("turns", range(8))
async def test_delivery_ends_when_it_is_told_to_in_the_moment_in_which_something_comes(
    parts: Parts, turns: int
) -> None:
    """Whichever turn of the event loop that is."""
    delivery = asyncio.create_task(parts.outbox.deliver_all(parts.service.deliver))
    # It has looked, found nothing, and waits.
    while parts.outbox._filled.is_set():  # noqa: ASYNC110 - it tells nobody that it has looked
        await asyncio.sleep(0.001)
    await parts.outbox.count()

    parts.outbox._filled.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    delivery.cancel()

    done, _ = await asyncio.wait({delivery}, timeout=10)
    assert done
    assert delivery.cancelled()
