"""What a scrape of a running service shows."""

from collections.abc import Mapping
from pathlib import Path

import httpx
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_SECONDS = 120


class Scrape:
    """All samples of one moment."""

    def __init__(self, families: list[Metric]) -> None:
        self.samples = [sample for family in families for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all series of a sample that have these labels; fail without one."""
        found = self.by_labels(name, labels)
        assert found, f"no {name} with {labels}"
        return sum(found)

    def by_labels(self, name: str, labels: Mapping[str, str]) -> list[float]:
        """Return the values of all series of a sample that have these labels."""
        return [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]


def scrape(url: str) -> Scrape:
    """Ask a service as Prometheus does, over a connection of its own."""
    answer = httpx.get(f"{url}/metrics", headers={"accept": "text/plain"}, timeout=TIMEOUT_SECONDS)
    return Scrape(list(text_string_to_metric_families(answer.raise_for_status().text)))


def worker_with(folder: Path, gauge: str) -> int:
    """Return the process id of the one worker that counts something now.

    Args:
        folder: `PROMETHEUS_MULTIPROC_DIR`.
        gauge: a gauge that is summed over live workers.
    """
    (pid,) = [
        int(file.stem.rpartition("_")[2])
        for file in folder.glob("gauge_livesum_*.db")
        if sum(_merged(file).by_labels(gauge, {})) > 0
    ]
    return pid


def _merged(file: Path) -> Scrape:
    merged = MultiProcessCollector.merge([str(file)])  # type: ignore[no-untyped-call]  # library
    return Scrape(list(merged))
