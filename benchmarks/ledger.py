"""The ledger's writer in this process, against a transaction for each charge."""

import asyncio
import itertools
import resource
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import uvloop
from benchmarks.canned import MODEL
from benchmarks.databases import databases
from benchmarks.plain_ledger import PlainLedger
from benchmarks.processes import BenchmarkError
from benchmarks.report import Plan, Report, progress
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select

from credits_service.api.render import render
from credits_service.core.metrics import LedgerMetrics
from credits_service.db.audit import audit
from credits_service.db.engine import DatabaseLimits, database_url, open_database
from credits_service.db.migrate import migrate
from credits_service.db.store import LedgerStore
from credits_service.db.tables import accounts
from credits_service.ledger.batch import Command
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import Charge, TopUp
from credits_service.ledger.writer import Writer

IN_FLIGHT = 64
ACCOUNTS = 1_000
AMOUNT_NANOS = 625_000
GRANTED_NANOS = 10**15
OK = 200
WRITER, PLAIN, RATIO = "writer, all rules", "plain, bare", "writer ÷ plain"
# What the proxy sends along with each charge.
_USAGE = msgspec.json.encode({"input_tokens": 12, "output_tokens": 256}).decode()
_PRICE = msgspec.json.encode({"model": MODEL, "input_pico": 300_000}).decode()
_METADATA = msgspec.json.encode({"completion_id": "chatcmpl-0", "key": "bench"}).decode()


class Ledger(Protocol):
    """What both ways can do."""

    async def open(self, users: list[str], balance_nanos: int) -> None:
        """Make the accounts."""

    async def charge(self, user_id: str, amount_nanos: int) -> None:
        """Take credit."""

    async def totals(self) -> tuple[int, int]:
        """Return the sum of all balances and the number of charges."""

    async def close(self) -> None:
        """Close the connections."""


class RealLedger:
    """The credits service's own writer, storage and rules, set up as the service does it."""

    def __init__(self, url: str) -> None:
        self._database = open_database(database_url(url), DatabaseLimits())
        clock = _clock_micros if self._database.is_sqlite else None
        store = LedgerStore(self._database, render=render, clock=clock)
        self._writer = Writer(store, LedgerMetrics(CollectorRegistry()))
        self._numbers = itertools.count(1)
        self._opened = 0

    async def open(self, users: list[str], balance_nanos: int) -> None:
        """Make the tables and the accounts."""
        await migrate(self._database.writer)
        self._writer.start()
        top_ups = [Command(TopUp(user, balance_nanos), "bench", "bench") for user in users]
        await asyncio.gather(*map(self._writer.submit, top_ups))
        self._opened = len(users)

    async def charge(self, user_id: str, amount_nanos: int) -> None:
        """Take credit: a request with an idempotency key and all that the proxy sends."""
        number = next(self._numbers)
        operation = Charge(
            user_id,
            amount_nanos,
            description=f"{MODEL}: 12 in, 256 out",
            usage=_USAGE,
            price=_PRICE,
            metadata=_METADATA,
        )
        key = IdempotencyKey("bench", f"settle-{number}")
        result = await self._writer.submit(Command(operation, "bench", f"req-{number}", key))
        if result.status != OK or result.replayed:
            raise BenchmarkError(f"a charge was answered {result.status}: {result.body!r}")

    async def totals(self) -> tuple[int, int]:
        """Return the sum of all balances and the number of charges."""
        async with self._database.reader.connect() as connection:
            query = select(func.sum(accounts.c.balance_nanos), func.sum(accounts.c.seq))
            balances, events = (await connection.execute(query)).one()
        return int(balances), int(events) - self._opened

    async def check(self) -> None:
        """Check every invariant of what was written."""
        async with self._database.reader.connect() as connection:
            found = await audit(connection)
        if found.violations:
            raise BenchmarkError(f"the ledger is not sound: {found.violations[:3]}")

    async def close(self) -> None:
        """Close the connections."""
        await self._writer.close()
        await self._database.close()


def _clock_micros() -> int:
    return time.time_ns() // 1_000


class Round(NamedTuple):
    """One round: charges, and the wall and CPU time that they took."""

    charges: int
    seconds: float
    cpu_seconds: float


async def _round(
    charge: Callable[[str, int], Awaitable[None]], users: list[str], seconds: float
) -> Round:
    names = itertools.cycle(users)
    charges = 0

    async def keep_charging(until: float) -> None:
        nonlocal charges
        while time.perf_counter() < until:
            await charge(next(names), AMOUNT_NANOS)
            charges += 1

    began, cpu_began = time.perf_counter(), _cpu_seconds()
    await asyncio.gather(*(keep_charging(began + seconds) for _ in range(IN_FLIGHT)))
    return Round(charges, time.perf_counter() - began, _cpu_seconds() - cpu_began)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _measure(database: str, urls: list[str], plan: Plan, report: Report) -> None:
    real = RealLedger(urls[0])
    ledgers: dict[str, Ledger] = {WRITER: real, PLAIN: PlainLedger(urls[1])}
    users = [f"user-{number}" for number in range(ACCOUNTS)]
    charged = dict.fromkeys(ledgers, 0)
    try:
        for ledger in ledgers.values():
            await ledger.open(users, GRANTED_NANOS)
            await _round(ledger.charge, users, 0.2)  # statements prepared, caches warm
        for name, ledger in ledgers.items():
            _, charged[name] = await ledger.totals()
        for number in range(plan.rounds):
            for what, some in (("one hot account", users[:1]), ("1,000 accounts", users)):
                rates = {}
                for name, ledger in ledgers.items():
                    done = await _round(ledger.charge, some, plan.seconds)
                    charged[name] += done.charges
                    await _check(name, ledger, charged[name])
                    rates[name] = _record(report, database, what, name, done)
                ratio = rates[WRITER] / rates[PLAIN]
                report.add("Ledger", f"{database}, {what}: charges/s", RATIO, ratio)
                progress(f"ledger, {database}, {what}, round {number + 1}: {ratio:.0f} times plain")
        await real.check()
    finally:
        for ledger in ledgers.values():
            await ledger.close()


def _record(report: Report, database: str, what: str, name: str, done: Round) -> float:
    rate = done.charges / done.seconds
    report.add("Ledger", f"{database}, {what}: charges/s", name, rate)
    cpu_micros = done.cpu_seconds / done.charges * 1e6
    report.add("Ledger", f"{database}, {what}: CPU µs/charge here", name, cpu_micros)
    return rate


async def _check(name: str, ledger: Ledger, charged: int) -> None:
    total_nanos, count = await ledger.totals()
    expected_nanos = ACCOUNTS * GRANTED_NANOS - charged * AMOUNT_NANOS
    if (total_nanos, count) != (expected_nanos, charged):
        raise BenchmarkError(
            f"{name}: {charged} charges were answered, {count} are booked; "
            f"the balances are off by {total_nanos - expected_nanos} nano-USD"
        )


def run(plan: Plan, report: Report, folder: Path) -> None:
    """Measure on every database that there is."""
    with databases(folder, report, count=2) as found:
        for database, urls in found.items():
            uvloop.run(_measure(database, urls, plan, report))
