"""`kill -9` of a serving credits service at each named point of its code, again and again.

What was acknowledged is kept; what was not is found out with the same key and booked once;
every invariant holds. `KILLS=1000` spreads at least that many kills over points and engines.
"""

import asyncio
import math
import os
import random
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from credits.client import app_of
from credits.drivers import Clock
from credits_service.webhooks.delivery import Deliverer
from faults.kill_points import (
    FORGETTING_POINTS,
    MIGRATION_POINTS,
    POINTS,
    REQUEST_POINTS,
    SWEEPER_POINTS,
    WAVES,
)
from faults.kill_round import LOW_BALANCE_USD, Ledger, Round, opened, prepare, recover, send
from support.fork_server import ForkServer
from support.ledgers import ENGINES, empty_ledger

_SIGKILL = -9
_KILLS_PER_POINT = 2
_HOUR_MICROS = 3_600_000_000
# For as long as keys are kept by default.
_KEPT_MICROS = 30 * 24 * _HOUR_MICROS
_LEAVE_TIMEOUT_SECONDS = 30
_SETTINGS = {
    "sweep_interval_seconds": 3600,
    "low_balance_usd": LOW_BALANCE_USD,
    "webhook_url": "http://127.0.0.1:9/",
    "webhook_allow_private_addresses": True,
    "webhook_secret": "whsec_" + "A0b1C2d3" * 4,
}
Answers = dict[tuple[int, int], httpx.Response]


def _kills() -> int:
    wanted = int(os.environ.get("KILLS", "0"))
    return max(_KILLS_PER_POINT, math.ceil(wanted / (len(POINTS) * len(ENGINES))))


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    with ForkServer("faults.kill_points") as server:
        yield server


async def _backends(ledger_url: str) -> set[int]:
    """Return who is connected to a ledger on PostgreSQL: nobody to an SQLite file."""
    if not ledger_url.startswith("postgresql"):
        return set()
    connection = await asyncpg.connect(ledger_url.replace("+asyncpg", ""))
    others = (
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    try:
        return {row["pid"] for row in await connection.fetch(others)}
    finally:
        await connection.close()


class _Killing:
    """One ledger, and services on it that are killed at one point."""

    def __init__(self, forks: ForkServer, ledger_url: str, point: str, rng: random.Random) -> None:
        self._forks = forks
        self._ledger_url = ledger_url
        self._point = point
        self._rng = rng
        self._others: set[int] = set()
        self.clock = Clock()
        self.app = app_of(ledger_url, self.clock, **_SETTINGS)

    @property
    def one_process_only(self) -> bool:
        """Whether a service must have ended before the next one may start."""
        return self._ledger_url.startswith("sqlite")

    async def _start(self, **settings: Any) -> dict[str, Any]:
        """Start the service that will die; return what it says first."""
        self._others = await _backends(self._ledger_url)
        passage = self._rng.randint(1, POINTS[self._point].passages)
        self._forks.start(
            {
                "ledger_url": self._ledger_url,
                "now_micros": self.clock.micros,
                "settings": {**_SETTINGS, **settings},
                "point": self._point,
                "passage": passage,
            }
        )
        return self._forks.read()

    async def _assert_killed(self, message: dict[str, Any]) -> None:
        """It died at the point; wait until PostgreSQL knows, as until then its locks stay."""
        assert "reached" in message, f"{self._point}: not reached, but {message}"
        assert self._forks.read() == {"ended": _SIGKILL}
        async with asyncio.timeout(_LEAVE_TIMEOUT_SECONDS):
            # PostgreSQL tells nobody when a backend ends.
            while await _backends(self._ledger_url) - self._others:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def serving(self, played: Round) -> Answers:
        """Send a round's requests until the kill; return what was acknowledged."""
        listening = await self._start()
        async with httpx.AsyncClient(base_url=listening["url"], verify=False, timeout=30) as http:  # noqa: S501 - plain HTTP
            answers = await send(http, played.waves)
        if len(answers) == sum(map(len, played.waves)):
            os.kill(listening["pid"], signal.SIGTERM)
        await self._assert_killed(self._forks.read())
        return answers

    async def sweeping(self) -> None:
        """Let the sweeper find what is due until the kill."""
        assert "url" in await self._start(sweep_interval_seconds=0.01)
        await self._assert_killed(self._forks.read())

    async def starting(self) -> None:
        """Start until the kill."""
        await self._assert_killed(await self._start())


@pytest.fixture(autouse=True)
def _no_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    """The services that are not killed write events down and leave it at that."""
    monkeypatch.setattr(Deliverer, "start", lambda _self: None)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    seed = os.environ.get("KILL_SEED") or str(random.randrange(2**32))  # noqa: S311 - no secret
    # Shown with a failing test's output, so that the run can be repeated.
    print(f"KILL_SEED={seed} {request.node.name}")  # noqa: T201
    return random.Random(f"{seed} {request.node.name}")  # noqa: S311 - see above


async def _kill_again_and_again(killing: _Killing, *, sweeping: bool) -> None:
    """Kill services on one ledger; who recovers is another replica or, on SQLite, the next one."""
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(opened(killing.app))
        for number in range(_kills()):
            played = await prepare(ledger, str(number), WAVES)
            killing.clock.micros += _HOUR_MICROS
            if killing.one_process_only:
                await stack.aclose()
            answers: Answers = {}
            if sweeping:
                await killing.sweeping()
            else:
                answers = await killing.serving(played)
            if killing.one_process_only:
                ledger = await stack.enter_async_context(opened(killing.app))
            await recover(ledger, played, answers)
        await ledger.assert_sound()


@pytest.mark.parametrize("point", REQUEST_POINTS)
async def test_requests_survive_a_kill(
    forks: ForkServer, ledger_url: str, point: str, rng: random.Random
) -> None:
    await _kill_again_and_again(_Killing(forks, ledger_url, point, rng), sweeping=False)


@pytest.mark.parametrize("point", SWEEPER_POINTS)
async def test_what_is_due_survives_a_kill_of_the_sweeper(
    forks: ForkServer, ledger_url: str, point: str, rng: random.Random
) -> None:
    await _kill_again_and_again(_Killing(forks, ledger_url, point, rng), sweeping=True)


@pytest.mark.parametrize("point", FORGETTING_POINTS)
async def test_keys_are_forgotten_all_or_none_by_a_killed_sweeper(
    forks: ForkServer, ledger_url: str, point: str, rng: random.Random
) -> None:
    """Old ones, that is; those that are not old yet are still good for a replay."""
    killing = _Killing(forks, ledger_url, point, rng)
    for number in range(_kills()):
        old, recent = f"old-{number}", f"recent-{number}"
        async with opened(killing.app) as ledger:
            await prepare(ledger, old, WAVES)
            killing.clock.micros += _KEPT_MICROS + _HOUR_MICROS
            played = await prepare(ledger, recent, WAVES)
            killing.clock.micros += _HOUR_MICROS
            made = await _keys_of(ledger, old)
        await killing.sweeping()
        async with opened(killing.app) as ledger:
            left = 0 if point == "forgetting: after the commit" else made
            assert await _keys_of(ledger, old) == left
            await recover(ledger, played, {}, killing.clock.micros - _KEPT_MICROS)


async def _keys_of(ledger: Ledger, name: str) -> int:
    """Count the keys that a round left."""
    count = "SELECT count(*) FROM idempotency_keys WHERE key LIKE :pattern"
    (row,) = await ledger.rows(count, pattern=f"{name}-%")
    return int(row[0])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("point", MIGRATION_POINTS)
def test_a_start_survives_a_kill_while_migrating(
    forks: ForkServer, tmp_path: Path, engine: str, point: str, rng: random.Random
) -> None:
    """The next start finds nothing or all of it, and serves."""
    for number in range(_kills()):
        with empty_ledger(engine, tmp_path / str(number)) as ledger_url:
            asyncio.run(_kill_a_start(forks, ledger_url, point, rng))


async def _kill_a_start(forks: ForkServer, ledger_url: str, point: str, rng: random.Random) -> None:
    killing = _Killing(forks, ledger_url, point, rng)
    await killing.starting()
    async with opened(killing.app) as ledger:
        played = await prepare(ledger, "0", WAVES)
        killing.clock.micros += _HOUR_MICROS
        await recover(ledger, played, {})
        await ledger.assert_sound()


def test_every_point_is_tested() -> None:
    """No point is named that no test above goes through."""
    assert POINTS == REQUEST_POINTS | SWEEPER_POINTS | FORGETTING_POINTS | MIGRATION_POINTS
    assert _kills() >= _KILLS_PER_POINT
