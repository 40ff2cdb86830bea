"""A bank under attack: processes are killed at random, and no answer ever becomes untrue.

`BANK_SECONDS=120` runs the long form; `BANK_SEED` repeats the operations of an earlier run.
"""

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from credits.client import CreditsClient, credits_process
from faults.bank import Bank
from faults.bank_check import assert_true, replay, resolve
from support.postgres_cluster import PostgresServer, postgres_server

if TYPE_CHECKING:
    from support.processes import ServiceProcess

SECONDS = float(os.environ.get("BANK_SECONDS", "8"))
_LONG_SECONDS = 60
# So many requests between two kills: with time for the last one's damage to show.
_REQUESTS_BETWEEN_KILLS = (30, 400)


class Nemesis:
    """Kills services and their database, and starts them again.

    Attributes:
        kills: how often what was killed.
    """

    def __init__(self, bank: Bank, url: str, database: PostgresServer | None) -> None:
        self.kills: Counter[str] = Counter()
        self._bank = bank
        self._url = url
        self._database = database
        self._rng = random.Random(bank.seed)  # noqa: S311 - repeatable, no secret
        self.services: list[ServiceProcess] = []

    def start_services(self, count: int) -> None:
        for _ in range(count):
            service = credits_process(self._url).wait_until_listening()
            self.services.append(service)
            self._bank.urls.append(service.url)

    def stop(self) -> None:
        for service in self.services:
            assert service.stop() == 0

    async def run(self, until: float) -> None:
        """Kill a service again and again, and the database at even distances in between."""
        times = 2 if SECONDS >= _LONG_SECONDS else 1
        start = time.monotonic()
        kill_database_at = [start + (until - start) * n / (times + 1) for n in range(1, times + 1)]
        while time.monotonic() < until:
            await self._bank.after_requests(self._rng.randint(*_REQUESTS_BETWEEN_KILLS), until)
            if self._database is not None and kill_database_at[:1] < [time.monotonic()]:
                kill_database_at = kill_database_at[1:] or [float("inf")]
                await asyncio.to_thread(self._kill_database, self._database)
            await asyncio.to_thread(self._kill_service)

    def _kill_service(self) -> None:
        number = self._rng.randrange(len(self.services))
        self.services[number].kill()
        self.kills["service"] += 1
        self.services[number] = credits_process(self._url).wait_until_listening()
        self._bank.urls[number] = self.services[number].url

    def _kill_database(self, database: PostgresServer) -> None:
        database.kill()
        self.kills["database"] += 1
        database.start()


async def _play(bank: Bank, nemesis: Nemesis) -> str:
    """Let all act, then learn the truth; return the run's figures."""
    try:
        await bank.open_accounts()
        until = time.monotonic() + SECONDS
        await asyncio.gather(bank.run(until), nemesis.run(until))
        acknowledged = sum(o.settled is not None for o in bank.history)
        unknown = await resolve(bank)
        await replay(bank)
    finally:
        await bank.close()
    doubts = sum(operation.doubts for operation in bank.history)
    return (
        f"{len(bank.history)} operations, {acknowledged} acknowledged, {unknown} unknown at the "
        f"end, {doubts} requests without an answer, {dict(nemesis.kills)} kills"
    )


def _test(url: str, services: int, database: PostgresServer | None, folder: Path) -> None:
    seed = int(os.environ.get("BANK_SEED") or random.randrange(2**32))  # noqa: S311 - no secret
    # Shown with a failing test's output, so that the run can be repeated.
    print(f"BANK_SEED={seed}, history in {folder}")  # noqa: T201
    bank = Bank(seed, [])
    nemesis = Nemesis(bank, url, database)
    with contextlib.ExitStack() as at_the_end:
        at_the_end.callback(bank.write_history, folder / "history")
        at_the_end.callback(nemesis.stop)
        nemesis.start_services(services)
        print(asyncio.run(_play(bank, nemesis)))  # noqa: T201 - see above
        with CreditsClient(bank.urls[0]) as client:
            assert_true(bank, client)
    assert nemesis.kills["service"]
    assert database is None or nemesis.kills["database"]
    assert any(operation.doubts for operation in bank.history), "the kills hit nothing"


@pytest.mark.timeout(180 + 5 * SECONDS)
def test_two_services_on_postgresql(tmp_path: Path) -> None:
    with postgres_server() as database:
        _test(database.url, 2, database, tmp_path)


@pytest.mark.timeout(180 + 5 * SECONDS)
def test_one_service_on_sqlite(tmp_path: Path) -> None:
    _test(f"sqlite:///{tmp_path}/ledger.sqlite3", 1, None, tmp_path)
