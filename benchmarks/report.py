"""Collects figures round by round, and shows them as tables and as JSON."""

import importlib.metadata
import json
import os
import platform
import sqlite3
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

_PACKAGES = ("uvloop", "httptools", "uvicorn", "fastapi", "aiohttp", "httpx", "msgspec")
_DATABASE_PACKAGES = ("sqlalchemy", "asyncpg", "aiosqlite")
_WIDTH_OF_NAMES = 46
_LARGE, _MIDDLE, _SMALL = 100, 10, 1


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: how often everything is measured; the table shows the median.
        seconds: length of a round.
        crowds: how many streams are opened at once.
        sizes: transactions in the ledgers that are compared, the smallest first.
    """

    rounds: int
    seconds: float
    crowds: tuple[int, ...]
    sizes: tuple[int, ...]


FULL = Plan(rounds=3, seconds=1.5, crowds=(100, 500), sizes=(10_000, 1_000_000))
QUICK = Plan(rounds=2, seconds=0.5, crowds=(100,), sizes=(10_000, 100_000))


@dataclass
class Report:
    """What has been measured: table → row → column → one value for each round."""

    tables: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add(self, table: str, row: str, column: str, value: float) -> None:
        """Take a value; the row's name says its unit."""
        rows = self.tables.setdefault(table, {})
        rows.setdefault(row, {}).setdefault(column, []).append(value)

    def leave_out(self, what: str, why: str) -> None:
        """Note, and say, what can't be measured here."""
        reason = f"{what}: {why}"
        if reason not in self.left_out:
            self.left_out.append(reason)
            progress(f"Left out: {reason}")

    def as_json(self, conditions: Mapping[str, Any]) -> bytes:
        """Return everything, each value included."""
        figures = [
            {
                "table": table,
                "figure": row,
                "of": column,
                "median": median(values),
                "min": min(values),
                "max": max(values),
                "rounds": values,
            }
            for table, rows in self.tables.items()
            for row, columns in rows.items()
            for column, values in columns.items()
        ]
        content = {"conditions": conditions, "left_out": self.left_out, "figures": figures}
        return json.dumps(content, indent=1, ensure_ascii=False).encode()

    def as_text(self, conditions: Mapping[str, Any]) -> str:
        """Return the tables, in Markdown."""
        lines: list[str] = []
        for table, rows in self.tables.items():
            names = list(dict.fromkeys(name for columns in rows.values() for name in columns))
            lines += ["", f"## {table}", "", f"| | {' | '.join(names)} |"]
            lines.append("|---|" + "---:|" * len(names))
            for row, columns in rows.items():
                cells = [_cell(columns.get(name, [])) for name in names]
                lines.append(f"| {row.ljust(_WIDTH_OF_NAMES)} | {' | '.join(cells)} |")
        lines += ["", "Median of the rounds (lowest and highest).", ""]
        lines += [f"- {name}: {value}" for name, value in conditions.items()]
        lines += [f"- left out: {reason}" for reason in self.left_out]
        return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return _number(values[0])
    return f"{_number(median(values))} ({_number(min(values))}–{_number(max(values))})"  # noqa: RUF001 - a range


def _number(value: float) -> str:
    size = abs(value)
    if size >= _LARGE:
        return f"{value:,.0f}"
    return (
        f"{value:.1f}" if size >= _MIDDLE else f"{value:.2f}" if size >= _SMALL else f"{value:.3f}"
    )


def conditions(plan: Plan, *, quick: bool) -> dict[str, str]:
    """Return under which conditions the figures are true."""
    packages = _PACKAGES + _DATABASE_PACKAGES
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores for everything: "
        "client, upstream and what is measured share them",
        "load average at the start": f"{os.getloadavg()[0]:.2f}",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": versions,
        "SQLite": f"{sqlite3.sqlite_version}, WAL, synchronous=FULL",
        "rounds": f"{plan.rounds} of {plan.seconds} s, interleaved{' (--quick)' if quick else ''}",
        "ledgers of `growth`": ", ".join(f"{size:,}" for size in plan.sizes) + " transactions",
        "not measured": "TLS, a network, more than one worker",
    }


_started_at = time.monotonic()


def progress(line: str) -> None:
    """Say what is going on."""
    print(f"[{time.monotonic() - _started_at:4.0f} s] {line}", file=sys.stderr, flush=True)


def write(report: Report, where: Path, found: Mapping[str, Any]) -> None:
    """Write the JSON file whole or not at all."""
    where.parent.mkdir(parents=True, exist_ok=True)
    part = where.with_suffix(".part")
    part.write_bytes(report.as_json(found))
    part.replace(where)
