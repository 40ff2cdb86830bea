"""`POST /api/v1/bill` over HTTP: one worker, one hot account."""

import json
from pathlib import Path

from benchmarks.databases import databases
from benchmarks.load import Expected, Load, Measured, without
from benchmarks.processes import BenchmarkError, Running, fetch, run_load
from benchmarks.report import Plan, Report, progress
from benchmarks.services import (
    SERVICE_KEY,
    balance_nanos,
    bearer,
    check_integrity,
    start_ledger,
    top_up,
)

IN_FLIGHT = 64
TABLE = f"POST /api/v1/bill, {IN_FLIGHT} in flight"
USER = "hot"
GRANTED_USD = 1_000_000
AMOUNT_USD, AMOUNT_NANOS = "0.000625", 625_000
_WARM_SECONDS = 0.3
_BODY = json.dumps({"user_id": USER, "amount": AMOUNT_USD, "description": "bench"}).encode()
_VARYING = [
    r'"transaction_id":"([^"]+)"',
    r'"balance":("[0-9.]+")',
    r'("seq":\d+)',
    r'"booked_at":("[^"]+")',
]


class BillBench:
    """One service on one database."""

    def __init__(self, database: str, service: Running, report: Report) -> None:
        self._database = database
        self._service = service
        self._report = report
        self._url = f"{service.url}/api/v1/bill"
        top_up(service, USER, GRANTED_USD)
        first = fetch(self._url, bearer(SERVICE_KEY), _BODY)
        said = json.loads(first)
        if said["amount"] != AMOUNT_USD or said["user_id"] != USER:
            raise BenchmarkError(f"not the charge that was asked for: {first!r}")
        self._expected = Expected(_VARYING, 200, without(first, _VARYING))
        self._charges = 1

    def load(self, seconds: float, key_prefix: str, connections: int = IN_FLIGHT) -> Measured:
        """Charge for a while, and check that each charge was taken once."""
        measured = run_load(
            Load(
                url=self._url,
                headers=bearer(SERVICE_KEY),
                body=_BODY,
                connections=connections,
                seconds=seconds,
                expected=self._expected,
                key_prefix=key_prefix,
            )
        )
        self._charges += measured.answers
        left_nanos = balance_nanos(self._service, USER)
        if left_nanos != GRANTED_USD * 10**9 - self._charges * AMOUNT_NANOS:
            raise BenchmarkError(f"{self._charges} charges do not explain {left_nanos} nano-USD")
        return measured

    def round(self, number: int, seconds: float) -> None:
        """Measure with and without idempotency keys."""
        for column, prefix in ((f"{self._database}, no key", ""), (self._database, "bench")):
            name = column if not prefix else f"{column}, with key"
            cpu_began = self._service.cpu_seconds
            found = self.load(seconds, prefix and f"{prefix}-{number}")
            cpu_micros = (self._service.cpu_seconds - cpu_began) / found.answers * 1e6
            rate = found.answers / found.seconds
            for row, value in (
                ("requests/s", rate),
                ("CPU µs/request (service)", cpu_micros),
                ("latency p50 (ms)", found.p50_ms),
                ("latency p99 (ms)", found.p99_ms),
                ("latency p99 ÷ p50", found.p99_ms / found.p50_ms),
            ):
                self._report.add(TABLE, row, name, value)
            alone = self.load(seconds, prefix and f"{prefix}-alone-{number}", connections=1)
            self._report.add(TABLE, "1 in flight: latency p50 (ms)", name, alone.p50_ms)
            progress(f"bill, {name}, round {number + 1}: {rate:,.0f} requests/s")


def run(plan: Plan, report: Report, folder: Path) -> None:
    """Measure on every database that there is."""
    with databases(folder, report) as found:
        services: list[Running] = []
        try:
            benches = []
            for database, (url,) in found.items():
                services.append(start_ledger(url, folder, f"credits-{database}"))
                benches.append(BillBench(database, services[-1], report))
                benches[-1].load(_WARM_SECONDS, "")
            for number in range(plan.rounds):
                for bench in benches:
                    bench.round(number, plan.seconds)
            for service in services:
                check_integrity(service)
        finally:
            for service in services:
                service.stop()
