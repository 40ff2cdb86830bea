"""Plants each fault in a copy of the source and lets the tests find it: `make mutants`.

Ends with 1 if a fault goes unnoticed, if one does not fit the source any more, or if the
tests fail on a copy without a fault. `ARGS="frozen limit"` runs the faults whose catalogue or
description holds one of these words.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mutants.catalogue import SOURCE, Mutant, all_mutants, planted

_TESTS = Path(__file__).parent.parent
_PROCESSES = 2
_SECONDS = 600


class Stage(NamedTuple):
    """Tests that are run together, the quick ones first.

    Attributes:
        examples: how many the machine runs.
    """

    name: str
    examples: int
    tests: tuple[str, ...]


_RULES = Stage(
    "rules",
    150,
    (
        "test_money",
        "test_journal",
        "test_events",
        "test_fingerprints",
        "test_rules",
        "test_refunds",
        "test_account_changes",
        "test_spend_limits",
        "test_key_limits",
        "test_account_status",
    ),
)
_API = Stage(
    "API",
    12,
    (
        "test_money",
        "test_bad_requests",
        "test_bad_batches",
        "test_refunds",
        "test_account_changes",
        "test_key_limits",
        "test_bill_api",
        "test_holds_api",
        "test_batch_api",
        "test_statements",
        "test_statement_figures",
        "test_key_retention",
    ),
)
_STORAGE = Stage(
    "storage",
    12,
    ("test_two_services", "test_storage", "test_accounts_api", "test_machine_http"),
)
_STAGES = {"rules": (_RULES, _API, _STORAGE), "storage": (_API, _STORAGE)}


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Outcome(NamedTuple):
    """What became of a fault.

    Attributes:
        killer: the test that found it; None if none did.
    """

    mutant: Mutant
    killer: str | None
    seconds: float


def _first_failure(stage: Stage, copy: Path) -> str | None:
    """Run a stage's tests on a copy of the package; name the test that fails."""
    environment = os.environ | {
        "PYTHONPATH": f"{copy}:{_TESTS}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LEDGER_SEED": "1",
        "LEDGER_EXAMPLES": str(stage.examples),
        "LEDGER_SHRINK": "no",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=no"]
    command += ["-o", "timeout=120", f"--rootdir={_TESTS.parent}"]
    command += [str(_TESTS / "credits" / f"{name}.py") for name in stage.tests]
    try:
        done = subprocess.run(
            command,
            cwd=_TESTS.parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{stage.name}: no end in {_SECONDS} s"
    if not done.returncode:
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return (
        lines[0].split(" - ")[0].rpartition("/")[2]
        if lines
        else f"{stage.name}: {done.stdout}{done.stderr}"
    )


class Plant:
    """Plants faults in copies of the source as it is now, whoever edits it meanwhile."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._source = directory / "source"
        shutil.copytree(SOURCE, self._source, ignore=shutil.ignore_patterns("__pycache__"))
        self._lock = threading.Lock()
        self._sound: set[Stage] = set()

    def killer(self, mutant: Mutant) -> str | None:
        """Return the test that finds a fault, or None.

        Raises:
            LookupError: the fault does not fit the source, or the tests fail without one.
        """
        text = planted(mutant, self._source)
        with self._copy() as copy:
            (copy / SOURCE.name / mutant.file).write_text(text, "utf-8")
            for stage in _STAGES[mutant.area]:
                self._check(stage)
                failure = _first_failure(stage, copy)
                if failure is not None:
                    return failure
        return None

    def _check(self, stage: Stage) -> None:
        """Make sure that the tests pass on a copy without a fault, once."""
        with self._lock, self._copy() as copy:
            if stage not in self._sound and (failure := _first_failure(stage, copy)):
                raise LookupError(f"{stage.name}: the tests fail without a fault: {failure}")
            self._sound.add(stage)

    @contextmanager
    def _copy(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._directory) as directory:
            shutil.copytree(self._source, Path(directory) / SOURCE.name)
            yield Path(directory)


def _outcome(plant: Plant, mutant: Mutant) -> Outcome:
    begun = time.monotonic()
    try:
        killer = plant.killer(mutant)
    except LookupError as error:
        _say(str(error))
        killer = None
    return Outcome(mutant, killer, time.monotonic() - begun)


def _is_meant(mutant: Mutant, words: list[str]) -> bool:
    return any(word in f"{mutant.area} {mutant.breaks}" for word in words)


def main(words: list[str]) -> int:
    """Run the faults; return the exit status."""
    mutants = [m for m in all_mutants() if not words or _is_meant(m, words)]
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(_PROCESSES) as pool:
        plant = Plant(Path(directory))
        for future in as_completed([pool.submit(_outcome, plant, m) for m in mutants]):
            mutant, killer, seconds = future.result()
            outcomes.append(future.result())
            result = "SURVIVED" if killer is None else f"killed by {killer}"
            counted = f"{len(outcomes):3}/{len(mutants)} {seconds:5.0f} s"
            _say(f"{counted}  {mutant.file:24} {mutant.breaks}: {result}")
    survivors = [outcome.mutant for outcome in outcomes if outcome.killer is None]
    _say(f"\n{len(mutants) - len(survivors)} of {len(mutants)} planted faults were found.")
    for mutant in survivors:
        _say(f"SURVIVED  {mutant.file}: {mutant.breaks}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
