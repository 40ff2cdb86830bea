"""A steady load for long: `make soak`, or `SOAK_SECONDS=3600 make soak` for an hour.

Proxy, credits service and simulator run as processes of their own. It fails if one of them grows,
if any answer is not as it must be, if charges differ from answers, or if the ledger is not sound.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import uvloop
from benchmarks.processes import BenchmarkError, Running, command, fetch_json
from benchmarks.report import progress
from benchmarks.services import (
    ADMIN_KEY,
    balance_nanos,
    bearer,
    check_integrity,
    proxy_settings,
    start_ledger,
    top_up,
)
from benchmarks.soak_requests import KEY_HOLDER, LEAVER, PAYER, Requests
from benchmarks.soak_watch import (
    DESCRIPTORS,
    RSS,
    Growth,
    Sample,
    gauges,
    growths,
    left_open,
    operating_system_view,
    table,
)

_GRANTED_USD = 10_000
# Root and everybody else may look at descriptors then; the services hide them otherwise.
_VISIBLE = {"CORE_DUMPS_ALLOWED": "true"}
# Far more than a steady load has: something does not keep up.
_IN_FLIGHT_MAX = 400
# Caches fill at first.
_WARM_SHARE, _WARM_SECONDS_MAX = 0.2, 300
_SAMPLES, _SAMPLE_SECONDS_MIN, _SAMPLE_SECONDS_MAX = 120, 0.5, 10
# What is running when the load ends has this long to be charged.
_SETTLE_SECONDS_MAX = 60
_FAULTS_SHOWN = 5
# Longer than any of them keeps a connection that nobody uses.
_IDLE_SECONDS_MAX = 100
# Shorter runs end before memory and connections are steady: there they are shown and not judged.
_JUDGED_FROM_SECONDS = 100
_DEFAULT_SECONDS, _DEFAULT_RATE = "600", "20"


@dataclass
class Watched:
    """The processes of a soak, by name, and what was seen of each."""

    processes: Mapping[str, Running]
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    async def look(self, session: aiohttp.ClientSession) -> dict[str, dict[str, float]]:
        """Return what each process has now."""
        found = {}
        for name, process in self.processes.items():
            found[name] = operating_system_view(process.pid)
            async with session.get(
                f"{process.url}/metrics", headers={"accept": "text/plain"}
            ) as response:
                # The simulator has none.
                found[name] |= gauges(await response.text()) if response.ok else {}
        return found

    def keep(self, seen: Mapping[str, Sample]) -> None:
        """Take a sample of what is compared at the end."""
        for name, sample in seen.items():
            self.samples.setdefault(name, []).append(sample)

    def growths(self) -> list[Growth]:
        """Compare the first quarter of all samples with the last."""
        return [each for name, seen in self.samples.items() for each in growths(name, seen)]


def _start(stack: ExitStack, folder: Path) -> dict[str, Running]:
    # The simulator has no log line for each request.
    simulator = Running(command("gemini-simulator"), {}, folder / "simulator.log")
    stack.enter_context(simulator)
    url = os.environ.get("DATABASE_URL") or f"sqlite+aiosqlite:///{folder / 'ledger.sqlite3'}"
    ledger = stack.enter_context(start_ledger(url, folder, more_settings=_VISIBLE))
    settings = {**proxy_settings(simulator.url, folder, ledger.url), **_VISIBLE}
    proxy = Running(command("ai-proxy-service"), settings, folder / "proxy.log")
    stack.enter_context(proxy)
    return {"proxy": proxy, "credits": ledger, "simulator": simulator}


def _issue_key(ledger: Running, account: str) -> str:
    headers = {**bearer(ADMIN_KEY), "idempotency-key": f"key-{account}"}
    body = b'{"account": "%b", "name": "soak", "scopes": ["chat"]}' % account.encode()
    return str(fetch_json(f"{ledger.url}/api/v1/keys", headers, body)["key"])


async def _load(requests: Requests, rate: float, seconds: float) -> None:
    """Send so many requests each second, however long the answers take."""
    running: set[asyncio.Task[None]] = set()
    began = time.monotonic()
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        if len(running) > _IN_FLIGHT_MAX:
            raise BenchmarkError(f"{len(running)} requests are under way: it does not keep up")
        task = asyncio.create_task(requests.send_any())
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)


async def _sample(
    watched: Watched, session: aiohttp.ClientSession, requests: Requests, seconds: float
) -> None:
    """Look again and again until it is cancelled, and say what is seen."""
    every = min(_SAMPLE_SECONDS_MAX, max(_SAMPLE_SECONDS_MIN, seconds / _SAMPLES))
    warm_seconds = min(_WARM_SECONDS_MAX, seconds * _WARM_SHARE)
    began = time.monotonic()
    number = 0
    while True:
        number += 1
        await asyncio.sleep(max(0.0, began + number * every - time.monotonic()))
        try:
            seen = await watched.look(session)
        except (aiohttp.ClientError, TimeoutError) as error:
            requests.faults.append(f"metrics: {type(error).__name__}: {error}")
            continue
        is_warm = time.monotonic() - began > warm_seconds
        if is_warm:
            watched.keep(seen)
        figures = ", ".join(
            f"{name} {has[RSS]:.1f} MB {has[DESCRIPTORS]:.0f} fd" for name, has in seen.items()
        )
        progress(
            f"{sum(requests.answered.values())} answered, {len(requests.faults)} faults; {figures}"
            + ("" if is_warm else " (warming up)")
        )


async def _settled(watched: Watched, session: aiohttp.ClientSession) -> str:
    """Wait until nothing runs any more; return what still does after a while, or nothing."""
    until = time.monotonic() + _SETTLE_SECONDS_MAX
    while True:
        seen = await watched.look(session)
        # The look itself is a request that is being answered.
        left = [
            f"{name}: {figure} {value:.0f}"
            for name, sample in seen.items()
            for figure, value in sample.items()
            if "_" in figure and value > (figure == "http_server_active_requests")
        ]
        if not left or time.monotonic() > until:
            return ", ".join(left)
        await asyncio.sleep(1)


async def _connections_left(
    watched: Watched, session: aiohttp.ClientSession, before: Mapping[str, Sample]
) -> list[str]:
    """Wait until connections that nobody uses are closed; return which are not, after a while."""
    until = time.monotonic() + _IDLE_SECONDS_MAX
    while True:
        left = left_open(before, await watched.look(session))
        if not left or time.monotonic() > until:
            return left
        await asyncio.sleep(1)


async def _soak(
    watched: Watched, issued_key: str, rate: float, seconds: float
) -> tuple[Requests, list[str]]:
    """Put them under load; return what was sent, and what was wrong with it."""
    proxy = watched.processes["proxy"]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession() as looking:
        async with aiohttp.ClientSession(connector=connector) as session:
            requests = Requests(session, proxy.url, issued_key)
            before = await watched.look(looking)
            await requests.learn()
            sampling = asyncio.create_task(_sample(watched, looking, requests, seconds))
            loading = asyncio.create_task(_load(requests, rate, seconds))
            try:
                await asyncio.wait({sampling, loading}, return_when=asyncio.FIRST_COMPLETED)
                if sampling.done():
                    await sampling
                await loading
            finally:
                sampling.cancel()
                loading.cancel()
        left = await _settled(watched, looking)
        is_judged = seconds >= _JUDGED_FROM_SECONDS
        still_open = await _connections_left(watched, looking, before) if is_judged else []
    troubles = [f"{len(requests.faults)} faults: {requests.faults[:_FAULTS_SHOWN]}"]
    return requests, [
        *(troubles if requests.faults else []),
        *([f"still there at the end: {left}"] if left else []),
        *still_open,
    ]


def _money_troubles(ledger: Running, requests: Requests) -> list[str]:
    troubles = []
    for account in (PAYER, LEAVER, KEY_HOLDER):
        charged = _GRANTED_USD * 10**9 - balance_nanos(ledger, account)
        told = requests.spent_nanos[account]
        progress(f"{account}: answers cost {told} nano-USD, {charged} were charged")
        if charged != told:
            troubles.append(f"{account}: answers cost {told} nano-USD, {charged} were charged")
    try:
        check_integrity(ledger)
    except BenchmarkError as error:
        troubles.append(str(error))
    return troubles


def _run(folder: Path, rate: float, seconds: float) -> list[str]:
    """Soak; print what was seen, and return what was wrong."""
    with ExitStack() as stack:
        watched = Watched(_start(stack, folder))
        ledger = watched.processes["credits"]
        for account in (PAYER, LEAVER, KEY_HOLDER):
            top_up(ledger, account, _GRANTED_USD)
        issued_key = _issue_key(ledger, KEY_HOLDER)
        requests, troubles = uvloop.run(_soak(watched, issued_key, rate, seconds))
        troubles += _money_troubles(ledger, requests)
    found = watched.growths()
    is_judged = seconds >= _JUDGED_FROM_SECONDS
    troubles += [each.trouble for each in found if is_judged and each.trouble]
    print(f"\n{seconds:.0f} s at {rate:g} requests/s, {sum(requests.answered.values())} answered:")
    print(", ".join(f"{count} {kind}" for kind, count in requests.answered.most_common()), "\n")
    print(table(found))
    if not is_judged:
        print(f"\nGrowth is not judged in less than {_JUDGED_FROM_SECONDS} s.")
    return troubles


def main(_arguments: Sequence[str]) -> int:
    """Soak, and say whether all was well; return the exit code."""
    if sys.platform != "linux":
        print("Descriptors and memory are read from /proc: this needs Linux.", file=sys.stderr)
        return 1
    # What was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seconds = float(os.environ.get("SOAK_SECONDS") or _DEFAULT_SECONDS)
    rate = float(os.environ.get("SOAK_RATE") or _DEFAULT_RATE)
    try:
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            troubles = _run(Path(folder), rate, seconds)
    except BenchmarkError as error:
        troubles = [str(error)]
    for trouble in troubles:
        print(f"FAILED: {trouble}")
    print(
        "" if troubles else "\nNothing grew, nothing failed, every charge is what its answer said."
    )
    return 1 if troubles else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
