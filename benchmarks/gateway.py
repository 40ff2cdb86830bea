"""The proxy: whole and streamed answers, billed and not, beside two references."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import canned
from benchmarks.databases import databases
from benchmarks.load import Load, Measured
from benchmarks.processes import Running, fetch, module
from benchmarks.report import Plan, Report, progress
from benchmarks.services import (
    CLIENT_KEY,
    bearer,
    check_integrity,
    start_ledger,
    start_proxy,
    top_up,
)
from benchmarks.targets import ACCOUNT, BILLED, DIRECT, GRANTED_USD, MINIMAL, PROXY, Target, crowd

IN_FLIGHT = 32
STREAMS = 64
_WARM_SECONDS = 0.3
UNARY = f"Whole answers, {IN_FLIGHT} in flight"
STREAMED = f"Streams back to back, {STREAMS} at a time, {canned.CHUNKS} chunks each"
START = "Start-up and memory"


@contextmanager
def _targets(folder: Path, report: Report) -> Iterator[list[Target]]:
    """Start everything that is compared."""
    folder = folder / uuid.uuid4().hex[:8]
    folder.mkdir()
    with ExitStack() as stack:
        upstream = stack.enter_context(Running(module("upstream"), {}, folder / "upstream.log"))
        minimal = stack.enter_context(
            Running(module("reference_proxy", upstream.url), {}, folder / "reference.log")
        )
        unbilled = stack.enter_context(start_proxy(upstream.url, folder))
        targets = [Target(DIRECT, upstream), Target(MINIMAL, minimal), Target(PROXY, unbilled)]
        for database, (url,) in stack.enter_context(databases(folder, report)).items():
            own = folder / database
            own.mkdir()
            ledger = stack.enter_context(start_ledger(url, own))
            top_up(ledger, ACCOUNT, GRANTED_USD)
            billed = stack.enter_context(start_proxy(upstream.url, own, ledger.url))
            targets.append(Target(BILLED.format(database), billed, ledger))
        yield targets
        for target in targets:
            if target.ledger:
                check_integrity(target.ledger)


def _cpu_micros(target: Target, load: Load) -> tuple[Measured, float, float]:
    """Run a load; return it with the CPU of the target, and of its ledger, in all."""
    cpu_began, ledger_began = target.cpu_seconds
    found = target.measure(load)
    cpu_ended, ledger_ended = target.cpu_seconds
    return found, (cpu_ended - cpu_began) * 1e6, (ledger_ended - ledger_began) * 1e6


def _ratios(report: Report, table: str, row: str, cpu_micros: dict[str, float]) -> None:
    for name, micros in cpu_micros.items():
        if name not in {DIRECT, MINIMAL}:
            report.add(table, f"{row}: {MINIMAL} ÷ this", name, cpu_micros[MINIMAL] / micros)


def _added(report: Report, table: str, unit: str, cpu_micros: dict[str, float]) -> None:
    """Report what holding, metering, charging and receipts cost the proxy's process."""
    for name, micros in cpu_micros.items():
        if name not in {DIRECT, MINIMAL, PROXY}:
            report.add(table, f"CPU added by billing (µs/{unit})", name, micros - cpu_micros[PROXY])


def run_unary(plan: Plan, report: Report, folder: Path) -> None:
    """Whole answers: CPU, throughput, and what the proxy adds to the latency."""
    with _targets(folder, report) as targets:
        for target in targets:
            target.measure(target.whole(IN_FLIGHT, _WARM_SECONDS))
        for number in range(plan.rounds):
            _unary_round(targets, plan, report)
            progress(f"unary, round {number + 1} of {plan.rounds}")


def _unary_round(targets: list[Target], plan: Plan, report: Report) -> None:
    direct_ms = 0.0
    each: dict[str, float] = {}
    for target in targets:
        found, cpu, ledger_cpu = _cpu_micros(target, target.whole(IN_FLIGHT, plan.seconds))
        each[target.name] = cpu / found.answers
        report.add(UNARY, "CPU µs/request", target.name, each[target.name])
        if target.ledger:
            cpu_each = ledger_cpu / found.answers
            report.add(UNARY, "CPU µs/request, ledger's process", target.name, cpu_each)
        report.add(UNARY, "requests/s", target.name, found.answers / found.seconds)
        report.add(UNARY, "latency p99 (ms)", target.name, found.p99_ms)
    for target in targets:
        alone = target.measure(target.whole(1, plan.seconds))
        report.add(UNARY, "1 in flight: latency p50 (ms)", target.name, alone.p50_ms)
        if target.name == DIRECT:
            direct_ms = alone.p50_ms
        else:
            added_ms = alone.p50_ms - direct_ms
            report.add(UNARY, "1 in flight: added p50 (ms)", target.name, added_ms)
    _ratios(report, UNARY, "CPU", each)
    _added(report, UNARY, "request", each)


def run_streams(plan: Plan, report: Report, folder: Path) -> None:
    """Streams whose chunks come as fast as they are taken: CPU for each chunk."""
    with _targets(folder, report) as targets:
        for target in targets:
            target.measure(target.streams(STREAMS, _WARM_SECONDS))
        for number in range(plan.rounds):
            each: dict[str, float] = {}
            for target in targets:
                found, cpu, ledger_cpu = _cpu_micros(target, target.streams(STREAMS, plan.seconds))
                chunks = found.answers * canned.CHUNKS
                each[target.name] = cpu / chunks
                report.add(STREAMED, "CPU µs/chunk, all in", target.name, each[target.name])
                if target.ledger:
                    cpu_each = ledger_cpu / chunks
                    report.add(STREAMED, "CPU µs/chunk, ledger's process", target.name, cpu_each)
                report.add(STREAMED, "chunks/s", target.name, chunks / found.seconds)
            _ratios(report, STREAMED, "CPU", each)
            _added(report, STREAMED, "chunk", each)
            progress(f"streams, round {number + 1} of {plan.rounds}")


def run_crowd(plan: Plan, report: Report, folder: Path) -> None:
    """Many paced streams that begin at once: when the first chunk comes, what each costs."""
    with _targets(folder, report) as targets:
        idle_mb = {target.name: target.process.rss_mb for target in targets}
        for target in targets:
            target.measure(target.paced_streams(1))
            report.add(START, "RSS idle (MB)", target.name, idle_mb[target.name])
        for number in range(plan.rounds):
            for size in plan.crowds:
                for target in targets:
                    peak_mb = _crowd_round(target, size, report)
                    if size == max(plan.crowds):
                        row = f"RSS, peak with {size} streams (MB)"
                        report.add(START, row, target.name, peak_mb)
                progress(f"crowd of {size}, round {number + 1} of {plan.rounds}")


def _crowd_round(target: Target, size: int, report: Report) -> float:
    """Measure one crowd; return the largest memory of the process that was seen."""
    table = (
        f"{size} streams begun at once, a chunk each {canned.PACE_SECONDS * 1000:.0f} ms, "
        f"the first after {canned.FIRST_CHUNK_SECONDS * 1000:.0f} ms"
    )
    cpu_began, _ = target.cpu_seconds
    found, peak_mb = crowd(target, size)
    cpu_ended, _ = target.cpu_seconds
    chunks = found.answers * canned.PACED_CHUNKS
    for row, value in (
        ("first chunk p50 (ms)", found.first_p50_ms),
        ("first chunk p99 (ms)", found.first_p99_ms),
        ("whole stream p50 (ms)", found.p50_ms),
        ("CPU µs/chunk, all in", (cpu_ended - cpu_began) / chunks * 1e6),
    ):
        report.add(table, row, target.name, value)
    return peak_mb


def run_start(plan: Plan, report: Report, folder: Path) -> None:
    """From the start of the process to its first completion."""
    folder = folder / "start"
    folder.mkdir()
    request = canned.chat_request(stream=False)
    with Running(module("upstream"), {}, folder / "upstream.log") as upstream:
        for number in range(plan.rounds):
            for name in (MINIMAL, PROXY):
                with (
                    start_proxy(upstream.url, folder)
                    if name == PROXY
                    else Running(module("reference_proxy", upstream.url), {}, folder / "ref.log")
                ) as process:
                    url = f"{process.url}/v1/chat/completions"
                    answer = json.loads(fetch(url, bearer(CLIENT_KEY), request))
                    took_seconds = time.perf_counter() - process.started_at
                assert answer["choices"][0]["message"]["content"] == canned.text(canned.CHUNKS)
                report.add(START, "start to first answer (s)", name, took_seconds)
            progress(f"start, round {number + 1} of {plan.rounds}")
