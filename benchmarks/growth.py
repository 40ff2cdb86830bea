"""What a ledger's size costs: each operation on a small and on a large one, in turn."""

import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

import uvloop
from benchmarks.databases import POSTGRESQL, databases, forbid_autovacuum
from benchmarks.grown import Grown
from benchmarks.history import Shape
from benchmarks.loader import load
from benchmarks.report import Plan, Report, progress
from benchmarks.services import start_ledger

MEMORY = "Growth: memory of the credits service (MB)"
STALE = "Growth under a running service, PostgreSQL without autovacuum"
LONG = "Growth: long answers (transactions/s)"
# PostgreSQL sorts all of the hot account's holds before the first one is checked.
_SETTINGS = {"DATABASE_STATEMENT_TIMEOUT_SECONDS": "300"}
_HOT_SHARE = 0.3
_TRANSACTIONS_PER_ACCOUNT = 100
_ACCOUNTS_MAX = 10_000
_CALLS_MIN = 5
# Enough for each of the pool's connections to have kept its plans.
_WARM_CALLS = 80
_STALE_TRANSACTIONS_MAX = 1_000_000
# Small enough for reading all of it to be the best plan.
_FIRST_DAY = Shape(300, 5, hot_share=0.8, prefix="first-")


def shape_of(transactions: int) -> Shape:
    """Return the shape of a ledger of that size: a larger one has more accounts too."""
    accounts = min(_ACCOUNTS_MAX, transactions // _TRANSACTIONS_PER_ACCOUNT)
    return Shape(transactions, accounts, _HOT_SHARE)


def _named(transactions: int) -> str:
    for unit, name in ((1_000_000, "million"), (1_000, "thousand")):
        if transactions >= unit:
            return f"{transactions / unit:g} {name}"
    return str(transactions)


class _Cost(NamedTuple):
    """What one operation took: the median, and the service's CPU."""

    milliseconds: float
    cpu_micros: float


def _costs(ledgers: dict[str, Grown], operation: str, seconds: float) -> dict[str, _Cost]:
    """Ask one after the other, call by call: what else the machine does meets them all."""
    took: dict[str, list[float]] = {name: [] for name in ledgers}
    cpu_began = {name: ledger.service.cpu_seconds for name, ledger in ledgers.items()}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(next(iter(took.values()))) < _CALLS_MIN:
        for name, ledger in ledgers.items():
            call = ledger.operations[operation]
            began = time.perf_counter()
            call()
            took[name].append(time.perf_counter() - began)
    costs: dict[str, _Cost] = {}
    for name, ledger in ledgers.items():
        cpu_seconds = ledger.service.cpu_seconds - cpu_began[name]
        costs[name] = _Cost(median(took[name]) * 1e3, cpu_seconds / len(took[name]) * 1e6)
    return costs


def _fill(url: str, shape: Shape, *, vacuum: bool = True) -> None:
    began = time.perf_counter()
    booked = uvloop.run(load(url, shape, vacuum=vacuum))
    seconds = time.perf_counter() - began
    progress(f"growth: {booked:,} transactions made in {seconds:.0f} s")


def _measure(table: str, ledgers: dict[str, Grown], plan: Plan, report: Report) -> None:
    """Run each operation on all of the ledgers; ratios are to the first one."""
    first, *others = ledgers
    for ledger in ledgers.values():
        for call in ledger.operations.values():
            call()
    for number in range(plan.rounds):
        for operation in ledgers[first].operations:
            costs = _costs(ledgers, operation, plan.seconds)
            for name in ledgers:
                column = f"{name}: p50 (ms)"
                report.add(table, operation, column, costs[name].milliseconds)
            for name in others:
                ratio = costs[name].milliseconds / costs[first].milliseconds
                report.add(table, operation, f"p50, {name} ÷ {first}", ratio)
                # Ticks are 10 ms long: few calls may have taken none.
                if costs[first].cpu_micros and costs[name].cpu_micros:
                    ratio = costs[name].cpu_micros / costs[first].cpu_micros
                    report.add(table, operation, f"CPU, {name} ÷ {first}", ratio)
        progress(f"{table}: round {number + 1} of {plan.rounds}")


def _remember(report: Report, column: str, ledger: Grown) -> None:
    """Read the memory: as it is after the load, and the most that long answers take."""
    service = ledger.service
    report.add(MEMORY, "after the operations", column, service.rss_mb)
    for what, ask in (
        ("statement as CSV", ledger.statement_csv),
        ("check of the hot account", ledger.integrity),
    ):
        service.forget_peak()
        began = time.perf_counter()
        transactions = ask()
        rate = transactions / (time.perf_counter() - began)
        report.add(LONG, what, column, rate)
        report.add(MEMORY, f"most, {what}", column, service.peak_mb)


def _sizes(database: str, urls: list[str], plan: Plan, report: Report, folder: Path) -> None:
    ledgers: dict[str, Grown] = {}
    with ExitStack() as stack:
        for url, size in zip(urls, plan.sizes, strict=False):
            name = _named(size)
            shape = shape_of(size)
            _fill(url, shape)
            log = f"credits-{database}-{size}"
            service = stack.enter_context(start_ledger(url, folder, log, _SETTINGS))
            ledgers[name] = Grown(service, shape)
        _measure(f"Growth, {database}", ledgers, plan, report)
        for name, ledger in ledgers.items():
            _remember(report, f"{database}, {name}", ledger)
            ledger.close()


def _stale(url: str, plan: Plan, report: Report, folder: Path) -> None:
    """Let a ledger grow under a service whose statements were planned on its first day."""
    shape = shape_of(min(max(plan.sizes), _STALE_TRANSACTIONS_MAX))
    with ExitStack() as stack:
        old = stack.enter_context(start_ledger(url, folder, "credits-old"))
        forbid_autovacuum(url)
        _fill(url, _FIRST_DAY, vacuum=False)
        first_day = Grown(old, _FIRST_DAY)
        for _ in range(_WARM_CALLS):
            for name, call in first_day.operations.items():
                # Batches have the statements of single charges, but the day would be long.
                if not name.startswith("batch"):
                    call()
        _fill(url, shape, vacuum=False)
        grown = Grown(old, shape)
        new = stack.enter_context(start_ledger(url, folder, "credits-new"))
        restarted = Grown(new, shape)
        _measure(STALE, {"restarted": restarted, "running since": grown}, plan, report)
        first_day.close()


def run(plan: Plan, report: Report, folder: Path) -> None:
    """Measure on every database that there is."""
    # Another one to grow while it is served.
    with databases(folder, report, count=len(plan.sizes) + 1) as found:
        for database, urls in found.items():
            _sizes(database, urls, plan, report, folder)
            if database == POSTGRESQL:
                _stale(urls[-1], plan, report, folder)
