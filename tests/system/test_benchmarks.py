"""The benchmarks run from a clean clone, and report what they have checked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "benchmarks" / "run.py"


@pytest.mark.parametrize(
    ("part", "figures"),
    [
        ("ledger", {"charges/s", "CPU µs/charge here"}),
        ("bill", {"requests/s", "CPU µs/request (service)", "latency p50 (ms)"}),
        ("unary", {"requests/s", "CPU µs/request", "1 in flight: latency p50 (ms)"}),
    ],
)
def test_a_part_measures_and_writes_positive_figures(
    part: str, figures: set[str], tmp_path: Path
) -> None:
    output = tmp_path / "figures.json"

    ended = subprocess.run(
        [sys.executable, str(RUN), "--quick", "--only", part, "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    written = json.loads(output.read_bytes())
    assert written["conditions"]["Python"]
    found = {figure["figure"].rpartition(", ")[2] for figure in written["figures"]}
    # The ledger's rows begin with database and accounts: "SQLite, one hot account: charges/s".
    assert figures <= found | {name.partition(": ")[2] for name in found}
    for figure in written["figures"]:
        # How much is added to the latency is a difference, which noise can make negative.
        if "added" not in figure["figure"]:
            assert 0 < figure["min"] <= figure["median"] <= figure["max"], figure
        assert len(figure["rounds"]) >= 2


def test_an_unknown_part_is_refused_with_the_known_ones() -> None:
    ended = subprocess.run(
        [sys.executable, str(RUN), "--only", "nothing"], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert "ledger" in ended.stderr


def test_without_postgresql_the_rest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Port 9 is nobody's.
    monkeypatch.setenv("TEST_DATABASE_URL", "postgresql://root@127.0.0.1:9/none")
    output = tmp_path / "figures.json"

    ended = subprocess.run(
        [sys.executable, str(RUN), "--quick", "--only", "bill", "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    written = json.loads(output.read_bytes())
    assert any("PostgreSQL" in reason for reason in written["left_out"])
    assert {figure["of"].partition(",")[0] for figure in written["figures"]} == {"SQLite"}


def test_ledgers_of_different_sizes_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One engine is enough for a test: port 9 is nobody's.
    monkeypatch.setenv("TEST_DATABASE_URL", "postgresql://root@127.0.0.1:9/none")
    output = tmp_path / "figures.json"
    parts = ["--only", "batch", "--only", "growth", "--sizes", "6000", "3000"]

    ended = subprocess.run(
        [sys.executable, str(RUN), "--quick", *parts, "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    figures = json.loads(output.read_bytes())["figures"]
    grown = {figure["figure"] for figure in figures if figure["table"] == "Growth, SQLite"}
    assert {"charge, hot account", "balance at a moment", "statement, a page of 50"} <= grown
    columns = {figure["of"] for figure in figures if figure["table"] == "Growth, SQLite"}
    assert "p50, 6 thousand ÷ 3 thousand" in columns
    assert all(figure["min"] > 0 for figure in figures)
    assert {"operations/s", "request p99 (ms)"} <= {figure["figure"] for figure in figures}
