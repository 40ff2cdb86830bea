"""Work that many ask for at once is done once."""

import asyncio

import pytest

from service_kit.shared_work import SharedWork


class _Work:
    def __init__(self) -> None:
        self.runs = 0
        self.may_end = asyncio.Event()

    async def __call__(self) -> int:
        self.runs += 1
        await self.may_end.wait()
        return self.runs


async def test_all_who_ask_while_it_runs_get_one_outcome() -> None:
    work, shared = _Work(), SharedWork[int]()
    asking = [asyncio.create_task(shared.run(work)) for _ in range(50)]
    await asyncio.sleep(0)
    work.may_end.set()
    assert await asyncio.gather(*asking) == [1] * 50


async def test_what_has_ended_is_done_anew() -> None:
    work, shared = _Work(), SharedWork[int]()
    work.may_end.set()
    assert [await shared.run(work), await shared.run(work)] == [1, 2]


async def test_who_leaves_does_not_end_it_for_the_others() -> None:
    work, shared = _Work(), SharedWork[int]()
    leaves, stays = (asyncio.create_task(shared.run(work)) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    work.may_end.set()
    assert await stays == 1


async def test_a_failure_is_told_to_all_and_remembered_by_none() -> None:
    shared = SharedWork[int]()
    fails = True

    async def work() -> int:
        await asyncio.sleep(0)
        if fails:
            raise ConnectionError
        return 1

    outcomes = await asyncio.gather(shared.run(work), shared.run(work), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionError, ConnectionError]
    fails = False
    assert await shared.run(work) == 1
