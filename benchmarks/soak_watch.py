"""What a process has over time, and whether it grew."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

RSS, PSS = "RSS (MB)", "PSS (MB)"
THREADS, DESCRIPTORS, SOCKETS, FILES = "threads", "descriptors", "connections", "files"
# What is counted in the processes themselves; each of them goes up and down with the requests.
GAUGES = (
    "http_server_active_requests",
    "gateway_streams_open",
    "gateway_holds_open",
    "gateway_settlements_waiting",
    "gateway_usage_log_waiting",
    "ledger_holds_open",
)
MEMORY_GROWTH_PERCENT_MAX = 5.0
# Counts of a steady load vary: a median moves by less than this unless something is kept. A pool
# for a file opens it again for each reader, eight at most, each with its log.
_COUNT_GROWTH_MIN, _COUNT_GROWTH_SHARE = {FILES: 20.0}, 0.1
_COUNT_GROWTH_MIN_OTHERWISE = 3.0
_KB, _MB = 1024, 1_000_000
# A process's share of a page gets larger when another process that has the page ends. Connections
# are kept open after a moment in which more requests than usual were under way, as long as each is
# used now and then: whether they are ever closed is seen when the load has ended.
_NOT_JUDGED = {PSS, SOCKETS, DESCRIPTORS}
_IDLE_CONNECTIONS_MORE_MAX = 3
# Fewer samples than this in a quarter say nothing about it.
_SAMPLES_MIN = 4

Sample = Mapping[str, float]


@dataclass(frozen=True)
class Growth:
    """The first and the last quarter of one figure of one process, as medians."""

    process: str
    figure: str
    first: float
    last: float

    @property
    def percent(self) -> float:
        """How much more the last quarter has."""
        return (self.last / self.first - 1) * 100 if self.first else 0.0

    @property
    def trouble(self) -> str:
        """What is wrong with it; empty if nothing is."""
        if not self._is_growth:
            return ""
        return f"{self.process}: {self.figure} grew from {self.first:.1f} to {self.last:.1f}"

    @property
    def _is_growth(self) -> bool:
        if self.figure in _NOT_JUDGED:
            return False
        if self.figure == RSS:
            return self.percent > MEMORY_GROWTH_PERCENT_MAX
        at_least = _COUNT_GROWTH_MIN.get(self.figure, _COUNT_GROWTH_MIN_OTHERWISE)
        return self.last > self.first + max(at_least, self.first * _COUNT_GROWTH_SHARE)


def growths(process: str, samples: Sequence[Sample]) -> list[Growth]:
    """Compare the first quarter of samples with the last; nothing if there are too few."""
    size = len(samples) // 4
    if size < _SAMPLES_MIN:
        return []
    return [
        Growth(
            process,
            figure,
            median(sample[figure] for sample in samples[:size]),
            median(sample[figure] for sample in samples[-size:]),
        )
        for figure in samples[0]
    ]


def left_open(before: Mapping[str, Sample], after: Mapping[str, Sample]) -> list[str]:
    """Name the processes that have more connections without a load than before it."""
    return [
        f"{name}: {after[name][SOCKETS]:.0f} connections without a load, "
        f"{has[SOCKETS]:.0f} before it"
        for name, has in before.items()
        if after[name][SOCKETS] > has[SOCKETS] + _IDLE_CONNECTIONS_MORE_MAX
    ]


def table(found: Iterable[Growth]) -> str:
    """Return what was compared, in Markdown."""
    lines = ["| | first quarter | last quarter | growth |", "|---|---:|---:|---:|"]
    lines += [
        f"| {each.process}: {each.figure} | {each.first:.1f} | {each.last:.1f} "
        f"| {each.percent:+.1f} % |"
        for each in found
    ]
    return "\n".join(lines)


def operating_system_view(pid: int) -> dict[str, float]:
    """Return what the kernel says about a process and all that it started."""
    totals = dict.fromkeys((RSS, PSS, THREADS, DESCRIPTORS, SOCKETS, FILES), 0.0)
    for each in _family(pid):
        # A worker may end in between.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            _add(totals, Path(f"/proc/{each}"))
    return totals


def _family(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _family(int(child))
    return found


def _add(totals: dict[str, float], process: Path) -> None:
    memory = dict(
        line.split(":", 1) for line in (process / "smaps_rollup").read_text().splitlines()[1:]
    )
    totals[RSS] += int(memory["Rss"].split()[0]) * _KB / _MB
    totals[PSS] += int(memory["Pss"].split()[0]) * _KB / _MB
    totals[THREADS] += sum(1 for _ in (process / "task").iterdir())
    opened = [_link(entry) for entry in (process / "fd").iterdir()]
    totals[DESCRIPTORS] += len(opened)
    sockets = sum(link.startswith("socket:") for link in opened)
    totals[SOCKETS] += sockets
    totals[FILES] += len(opened) - sockets


def _link(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except FileNotFoundError:
        return ""


def gauges(metrics_text: str) -> dict[str, float]:
    """Return the sums of the gauges that a process has, from Prometheus' text form."""
    found: dict[str, float] = {}
    for line in metrics_text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in GAUGES:
            found[name] = found.get(name, 0.0) + float(line.rpartition(" ")[2])
    return found
