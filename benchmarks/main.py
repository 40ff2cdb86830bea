"""The command line: what to measure, and how much of it."""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import batch, bill, gateway, growth, key_timing, ledger, store_faults
from benchmarks.databases import postgres_version
from benchmarks.processes import BenchmarkError
from benchmarks.report import FULL, QUICK, Plan, Report, conditions, progress, write

DEFAULT_OUTPUT = Path(__file__).resolve().parent / "results" / "latest.json"
_PARTS: dict[str, Callable[[Plan, Report, Path], None]] = {
    "ledger": ledger.run,
    "bill": bill.run,
    "batch": batch.run,
    "growth": growth.run,
    "unary": gateway.run_unary,
    "streams": gateway.run_streams,
    "crowd": gateway.run_crowd,
    "start": gateway.run_start,
    "keys": key_timing.run,
    "store-faults": store_faults.run,
}


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure ledger and proxy.")
    parser.add_argument("--quick", action="store_true", help="about two minutes, rougher")
    parser.add_argument(
        "--only", action="append", choices=_PARTS, help="one part; may be repeated", default=[]
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        metavar="N",
        help="of the ledgers that `growth` compares, in transactions; 10000000 is possible",
    )
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="the JSON file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Measure, show the tables and write the JSON file; return the exit code."""
    chosen = _arguments(arguments)
    if sys.platform != "linux":
        print("The benchmarks read CPU and memory from /proc: they need Linux.", file=sys.stderr)
        return 1
    # What was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = QUICK if chosen.quick else FULL
    if chosen.sizes:
        plan = replace(plan, sizes=tuple(sorted(chosen.sizes)))
    report = Report()
    found = conditions(plan, quick=chosen.quick)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            for name in chosen.only or _PARTS:
                progress(f"{name} …")
                _PARTS[name](plan, report, Path(folder))
    except BenchmarkError as error:
        print(f"Stopped, and nothing is reported: {error}", file=sys.stderr)
        return 1
    if not report.left_out and set(chosen.only) != {"start"}:
        found["PostgreSQL"] = postgres_version()
    write(report, chosen.output, found)
    print(report.as_text(found))
    print(f"\nWritten to {chosen.output}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
