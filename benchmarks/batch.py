"""`POST /api/v1/batch` over HTTP: 500 charges in a request, beside the same one by one."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import NamedTuple

import msgspec
from benchmarks.bill import AMOUNT_NANOS, AMOUNT_USD, GRANTED_USD, BillBench
from benchmarks.client import Client
from benchmarks.databases import databases
from benchmarks.load import percentile_ms
from benchmarks.processes import BenchmarkError, Running
from benchmarks.report import Plan, Report, progress
from benchmarks.services import balance_nanos, check_integrity, start_ledger

OPERATIONS = 500
IN_FLIGHT = 2
ACCOUNTS = 1_000
TABLE = f"POST /api/v1/batch, {OPERATIONS} charges with keys in each, {IN_FLIGHT} in flight"
_RATIO = "÷ POST /bill one by one, 64 in flight"
_OK = 200


class _Body(msgspec.Struct):
    amount: str
    user_id: str


class _Result(msgspec.Struct):
    status: int
    replayed: bool
    body: _Body


class _Answer(msgspec.Struct):
    results: list[_Result]


class _Done(NamedTuple):
    """What was charged to whom, and how long each request took."""

    users: list[str]
    latencies: list[float]


class BatchBench:
    """One service on one database."""

    def __init__(self, database: str, service: Running, report: Report) -> None:
        self._database = database
        self._service = service
        self._report = report
        self.bill = BillBench(database, service, report)
        self._users = [f"user-{number}" for number in range(ACCOUNTS)]
        self._charges = dict.fromkeys(self._users, 0)
        self._keys = count()
        self._grant()

    def _grant(self) -> None:
        body = {"amount": str(GRANTED_USD)}
        with Client(self._service.url) as client:
            for begin in range(0, ACCOUNTS, OPERATIONS):
                operations = [
                    {
                        "op": "topup",
                        "idempotency_key": f"grant-{user}",
                        "body": {"user_id": user, **body},
                    }
                    for user in self._users[begin : begin + OPERATIONS]
                ]
                client.post("/batch", {"operations": operations}, as_operator=True)

    def _charge(self, users: list[str], until: float) -> _Done:
        """Send one batch after the other, and check each answer."""
        done = _Done([], [])
        with Client(self._service.url) as client:
            while not done.latencies or time.perf_counter() < until:
                numbers = [next(self._keys) for _ in range(OPERATIONS)]
                asked = [users[number % len(users)] for number in numbers]
                operations = list(map(_operation, asked, numbers))
                body = msgspec.json.encode({"operations": operations})
                began = time.perf_counter()
                written = client.post_encoded("/batch", body)
                done.latencies.append(time.perf_counter() - began)
                _check(asked, msgspec.json.decode(written, type=_Answer))
                done.users.extend(asked)
        return done

    def load(self, users: list[str], seconds: float) -> tuple[float, float, list[float]]:
        """Charge for a while; return operations/s, the service's CPU for each, and latencies."""
        began, cpu_began = time.perf_counter(), self._service.cpu_seconds
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            running = [
                threads.submit(self._charge, users, began + seconds) for _ in range(IN_FLIGHT)
            ]
            done = [each.result() for each in running]
        took = time.perf_counter() - began
        cpu_micros = (self._service.cpu_seconds - cpu_began) * 1e6
        charged = [user for each in done for user in each.users]
        for user in charged:
            self._charges[user] += 1
        latencies = [latency for each in done for latency in each.latencies]
        return len(charged) / took, cpu_micros / len(charged), latencies

    def round(self, number: int, seconds: float) -> None:
        """Measure both kinds of accounts, then the same charges one by one."""
        rates: dict[str, float] = {}
        for what, users in (("one account", self._users[:1]), ("1,000 accounts", self._users)):
            rates[what], cpu_micros, latencies = self.load(users, seconds)
            for row, value in (
                ("operations/s", rates[what]),
                ("CPU µs/operation (service)", cpu_micros),
                ("request p50 (ms)", percentile_ms(latencies, 0.5)),
                ("request p99 (ms)", percentile_ms(latencies, 0.99)),
            ):
                self._report.add(TABLE, row, f"{self._database}, {what}", value)
        alone = self.bill.load(seconds, f"alone-{number}")
        for what, rate in rates.items():
            ratio = rate / (alone.answers / alone.seconds)
            self._report.add(TABLE, f"operations/s {_RATIO}", f"{self._database}, {what}", ratio)
        progress(f"batch, {self._database}, round {number + 1}: {rates['one account']:,.0f}/s")

    def check(self) -> None:
        """Check that the charges explain each balance, and every invariant."""
        for user, charges in self._charges.items():
            left_nanos = balance_nanos(self._service, user)
            if left_nanos != GRANTED_USD * 10**9 - charges * AMOUNT_NANOS:
                raise BenchmarkError(f"{charges} charges do not explain {left_nanos} nano-USD")
        check_integrity(self._service)


def _operation(user: str, number: int) -> dict[str, object]:
    bill = {"user_id": user, "amount": AMOUNT_USD, "description": "bench"}
    return {"op": "bill", "idempotency_key": f"batch-{number}", "body": bill}


def _check(asked: list[str], answer: _Answer) -> None:
    got = [
        result.body.user_id
        for result in answer.results
        if (result.status, result.replayed, result.body.amount) == (_OK, False, AMOUNT_USD)
    ]
    if got != asked:
        raise BenchmarkError(f"{len(got)} of {len(asked)} charges of a batch were taken")


def run(plan: Plan, report: Report, folder: Path) -> None:
    """Measure on every database that there is."""
    with databases(folder, report) as found:
        services: list[Running] = []
        try:
            benches = []
            for database, (url,) in found.items():
                services.append(start_ledger(url, folder, f"credits-batch-{database}"))
                benches.append(BatchBench(database, services[-1], report))
            for number in range(plan.rounds):
                for bench in benches:
                    bench.round(number, plan.seconds)
            for bench in benches:
                bench.check()
        finally:
            for service in services:
                service.stop()
