"""`kill -9` of the proxy or its ledger at each named point of a paid completion.

What a client was given is charged, exactly and once. What nobody was given to its end is charged
exactly, or as far as the ledger was told, or not at all; nothing stays held, and every invariant
holds. `KILLS=500` spreads at least that many kills over the points.
"""

import asyncio
import math
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from credits_service.ledger.operations import TopUp
from faults.gateway_kill_points import (
    LEDGER_CALLS,
    LEDGER_POINTS,
    PROXY_POINTS,
    QUICK,
    Outcome,
)
from faults.gateway_killing import Ends, Killing
from faults.gateway_round import BEATING, CALLS, Asked, billed_nanos, make_round, outcome
from faults.kill_round import Ledger
from support.fork_server import ForkServer
from support.ledgers import ENGINES, empty_ledger
from support.processes import ServiceProcess
from support.proxy_app import wait_until_nothing_runs

_KILLS_PER_POINT = 2
_CREDIT_NANOS = 2_000_000_000


def _kills(least: int = _KILLS_PER_POINT) -> int:
    wanted = int(os.environ.get("KILLS", "0"))
    points = len(PROXY_POINTS) + len(LEDGER_CALLS) + len(LEDGER_POINTS) * len(ENGINES)
    return max(least, math.ceil(wanted / points))


@pytest.fixture(scope="module")
def ends() -> Iterator[Ends]:
    counted = Ends()
    yield counted
    print(f"\n{counted.table()}")  # noqa: T201 - the long run's result


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    with ForkServer("faults.gateway_kill_points") as server:
        yield server


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with ServiceProcess("gemini-simulator", {}) as process:
        yield process.url


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in QUICK:
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    seed = os.environ.get("KILL_SEED") or str(random.randrange(2**32))  # noqa: S311 - no secret
    # Shown with a failing test's output, so that the run can be repeated.
    print(f"KILL_SEED={seed} {request.node.name}")  # noqa: T201
    return random.Random(f"{seed} {request.node.name}")  # noqa: S311 - see above


async def _account(ledger: Ledger, number: int) -> str:
    account = f"account-{number}"
    await ledger.run([TopUp(account, _CREDIT_NANOS)], f"topup-{number}")
    return account


async def _check(
    ledger: Ledger, account: str, round_: list[Asked], *, served: bool
) -> list[tuple[Asked, Outcome]]:
    """Everything is paid for as it must be; return what became of each completion."""
    billed = await billed_nanos(ledger, account)
    assert set(billed) <= {one.request_id for one in round_}
    (row,) = await ledger.rows(
        "SELECT balance_nanos, held_nanos FROM accounts WHERE user_id = :account", account=account
    )
    assert row.held_nanos == 0
    assert row.balance_nanos == _CREDIT_NANOS - sum(billed.values())
    await ledger.assert_sound()
    return [(one, outcome(one, billed.get(one.request_id, 0), served=served)) for one in round_]


async def _kill_proxy(
    killing: Killing, point: str, outcomes: frozenset[Outcome], ends: Ends, rng: random.Random
) -> None:
    is_beating = point in PROXY_POINTS and PROXY_POINTS[point].beating
    async with killing.ledger() as (ledger, ledger_url):
        for number in range(_kills()):
            account = await _account(ledger, number)
            round_ = make_round(BEATING if is_beating else CALLS)
            dying = await killing.start_proxy(point, ledger_url)
            async with killing.clients(dying["url"]) as clients:
                playing = asyncio.create_task(clients.ask(round_, account))
                victim = await killing.killed(dying["pid"], playing)
                await playing
            # What is delivered late may come before or after the hold's end.
            expires_first = rng.random() < 0.5
            if expires_first:
                await killing.expire(ledger, account)
            async with killing.delivery(ledger_url):
                await killing.wait_for_the_outbox()
            if not expires_first:
                await killing.expire(ledger, account)
            ended = await _check(ledger, account, round_, served=False)
            for one, end in ended:
                if one.request_id == victim and not one.call.is_refused:
                    assert end in outcomes, f"{point}: {one} is {end}"
                if is_beating:
                    _assert_paid_up_to_a_heartbeat(one, await billed_nanos(ledger, account))
            ends.note(point, ended)


def _assert_paid_up_to_a_heartbeat(one: Asked, billed: dict[str, int]) -> None:
    """What the client saw is charged; one chunk more may have been on its way."""
    seen_tokens = one.seen.chunks * one.call.chunk_tokens
    charged = billed.get(one.request_id, 0)
    assert charged >= (one.cost_nanos(seen_tokens) if seen_tokens else 0), (one, charged)


@pytest.fixture
def killing(
    forks: ForkServer, simulator: str, tmp_path: Path, rng: random.Random
) -> Iterator[Killing]:
    with empty_ledger("sqlite", tmp_path) as ledger_url:
        yield Killing(forks, simulator, ledger_url, tmp_path, rng)


@pytest.mark.parametrize("point", PROXY_POINTS)
async def test_a_completion_survives_a_kill_of_the_proxy(
    killing: Killing, point: str, ends: Ends, rng: random.Random
) -> None:
    await _kill_proxy(killing, point, PROXY_POINTS[point].outcomes, ends, rng)


@pytest.mark.parametrize("point", LEDGER_CALLS)
async def test_a_completion_survives_a_kill_of_the_proxy_that_waits_for_the_ledger(
    killing: Killing, point: str, ends: Ends, rng: random.Random
) -> None:
    await _kill_proxy(killing, point, LEDGER_CALLS[point].outcomes, ends, rng)


async def _kill_ledger(killing: Killing, point: str, ends: Ends) -> None:
    async with killing.ledger() as (_, ledger_url):
        pass
    async with killing.proxy(ledger_url) as proxy_url, killing.clients(proxy_url) as clients:
        # On each of the two engines.
        for number in range(_kills(1)):
            async with killing.ledger(ledger_url) as (ledger, _):
                account = await _account(ledger, number)
            round_ = make_round(CALLS)
            dying = await killing.start_ledger(point, ledger_url)
            playing = asyncio.create_task(clients.ask(round_, account))
            await killing.killed(dying["pid"], playing)
            async with killing.ledger(ledger_url) as (ledger, _):
                await playing
                await wait_until_nothing_runs()
                await killing.wait_for_the_outbox()
                await killing.expire(ledger, account)
                ends.note(point, await _check(ledger, account, round_, served=True))


@pytest.fixture
def killing_on_each_engine(
    forks: ForkServer, simulator: str, ledger_url: str, tmp_path: Path, rng: random.Random
) -> Killing:
    return Killing(forks, simulator, ledger_url, tmp_path, rng)


@pytest.mark.parametrize("point", LEDGER_POINTS)
async def test_a_completion_survives_a_kill_of_the_ledger(
    killing_on_each_engine: Killing, point: str, ends: Ends
) -> None:
    """It is back at once: what ran is charged exactly, what was refused is not charged."""
    await _kill_ledger(killing_on_each_engine, point, ends)
