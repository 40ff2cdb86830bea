"""The Redis of the limits fails under load: how long the proxy's event loop stalls meanwhile.

The same load without a fault, and a loop with nothing to do on the same machine at the same time,
tell what of it is not the fault's. `REDIS_FAULT_SECONDS=30` keeps each fault up so long.
"""

import json
import os
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from benchmarks import stalls
from benchmarks.faulty_redis import SLOW_SECONDS, FaultyRedis, faulty_redis, redis_program
from benchmarks.load import Load, Measured
from benchmarks.processes import BenchmarkError, LoadRun, Running, fetch, fetch_json, module
from benchmarks.report import Plan, Report, progress
from benchmarks.services import ADMIN_KEY, bearer, proxy_settings, start_ledger, top_up
from benchmarks.stalls import Stalls
from benchmarks.targets import ACCOUNT, GRANTED_USD, PROXY, Target

CONNECTIONS = 32
PAUSE_SECONDS = 0.4
_NONE = "no fault"
_FAULTS = (_NONE, "stopped", "paused", "slow")
_NAMES = {"slow": f"slow, {SLOW_SECONDS * 1000:.0f} ms each way"}
# A request tries a lost store so often.
_RETRY_SECONDS = 5
_SETTLE_SECONDS_MAX = 60
_ASK_SECONDS = 0.3
TABLE = "The limits' Redis fails under load"


@dataclass
class _World:
    target: Target
    idle: Running
    redis: FaultyRedis
    key: str

    def load(self, seconds: float) -> Load:
        """Ask steadily, with a key that has limits of its own, and leaves the cores time."""
        load = self.target.whole(CONNECTIONS, seconds)
        return msgspec.structs.replace(load, headers=bearer(self.key), pause_seconds=PAUSE_SECONDS)

    def measure(self, load: Load, fault: str, fault_seconds: float) -> Measured:
        """Run a load; a second after its beginning the fault comes."""
        running = LoadRun(load)
        time.sleep(1)
        self.redis.fail(fault)
        time.sleep(fault_seconds)
        self.redis.mend(fault)
        found = running.result()
        self.target.check_charges(load, found)
        return found

    def limits(self) -> dict[str, Any]:
        """Return what the proxy says of its limits' store."""
        view: dict[str, Any] = fetch_json(f"{self.target.process.url}/metrics", {})["limits"]
        return view

    def settle(self) -> None:
        """Ask until the store is used again."""
        give_up_at = time.monotonic() + _SETTLE_SECONDS_MAX
        while not self.limits()["store_up"]:
            if time.monotonic() > give_up_at:
                raise BenchmarkError("the store is not used again")
            self.target.measure(self.load(_ASK_SECONDS))


def run(plan: Plan, report: Report, folder: Path) -> None:
    """Let each fault come and go under the same load, in turn."""
    program = redis_program()
    if program is None:
        report.leave_out("store-faults", "redis-server is not installed")
        return
    fault_seconds = float(os.environ.get("REDIS_FAULT_SECONDS", "0")) or 3 * plan.seconds
    folder = folder / uuid.uuid4().hex[:8]
    folder.mkdir()
    with ExitStack() as stack:
        world = _start(stack, program, folder)
        for number in range(plan.rounds):
            for fault in _FAULTS:
                _round(world, fault, fault_seconds, report)
            progress(f"store-faults, round {number + 1} of {plan.rounds}")


def _start(stack: ExitStack, program: str, folder: Path) -> _World:
    redis = stack.enter_context(faulty_redis(program, folder))
    upstream = stack.enter_context(Running(module("upstream"), {}, folder / "upstream.log"))
    idle = stack.enter_context(Running(module("stalls", "idle"), {}, folder / "idle.log"))
    url = f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}"
    ledger = stack.enter_context(start_ledger(url, folder))
    top_up(ledger, ACCOUNT, GRANTED_USD)
    settings = {
        **proxy_settings(upstream.url, folder, ledger.url),
        "RATE_LIMIT_STORAGE_URI": redis.url,
    }
    proxy = stack.enter_context(
        Running(module("stalls", "proxy"), settings, folder / "proxy-watched.log")
    )
    limits = {"rpm": 1_000_000, "tpm": 1_000_000_000, "max_concurrent": 1_000}
    body = json.dumps({"account": ACCOUNT, "name": "bench", **limits}).encode()
    headers = {**bearer(ADMIN_KEY), "idempotency-key": "key"}
    key = fetch_json(f"{ledger.url}/api/v1/keys", headers, body)["key"]
    return _World(Target(PROXY, proxy, ledger), idle, redis, key)


def _round(world: _World, fault: str, fault_seconds: float, report: Report) -> None:
    """One fault, from a second before it until the store was tried again."""
    seconds = 1 + fault_seconds + _RETRY_SECONDS + 1
    load = world.load(seconds)
    world.settle()
    failures_before = world.limits()["store_errors"]
    for process in (world.target.process, world.idle):
        _taken(process)
    found = world.measure(load, fault, fault_seconds)
    busy, idle = _taken(world.target.process), _taken(world.idle)
    name = _NAMES.get(fault, fault)
    for row, value in (
        ("longest stall of the loop (ms)", busy.longest_ms),
        ("longest but for waiting for a core (ms)", busy.own_longest_ms),
        ("so 99.9 % of the looks (ms)", busy.own_p999_ms),
        ("longest of an idle loop beside it (ms)", idle.longest_ms),
        ("longest of that but for a core (ms)", idle.own_longest_ms),
        ("times that Redis did not answer", world.limits()["store_errors"] - failures_before),
        ("answers, all of them right", found.answers),
        ("latency p50 (ms)", found.p50_ms),
        ("latency p99 (ms)", found.p99_ms),
        ("latency, longest (ms)", found.max_ms),
    ):
        report.add(TABLE, row, name, value)


def _taken(process: Running) -> Stalls:
    return msgspec.json.decode(fetch(process.url + stalls.PATH, {}), type=Stalls)
