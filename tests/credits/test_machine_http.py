"""The machine against the running service, on both engines side by side."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from credits.machine_runs import is_long
from support.databases import postgres_database, postgres_problem, require_postgres

_TESTS = Path(__file__).parent.parent
_SECONDS = 1_200
ENGINES = ("sqlite", "postgresql")


class Run(NamedTuple):
    """A process that has begun, and where it writes."""

    process: subprocess.Popen[bytes]
    output: Path


Runs = dict[str, Run]

pytestmark = pytest.mark.timeout(0 if is_long() else _SECONDS)


def _start(ledger_url: str, output: Path) -> Run:
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "credits.machine_http", ledger_url],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=_TESTS,
            env=os.environ | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{_TESTS}"},
        )
    return Run(process, output)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Begin both runs at once: each keeps one core busy."""
    directory = tmp_path_factory.mktemp("machine")
    urls = {"sqlite": f"sqlite+aiosqlite:///{directory / 'ledger.sqlite3'}"}
    with ExitStack() as stack:
        if postgres_problem() is None:
            urls["postgresql"] = stack.enter_context(postgres_database())
        started = {engine: _start(url, directory / engine) for engine, url in urls.items()}
        try:
            yield started
        finally:
            for run in started.values():
                run.process.kill()
                run.process.wait()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_service_and_the_model_agree(engine: str, runs: Runs) -> None:
    """Every answer is the model's, and the accounts are sound after every step."""
    if engine not in runs:
        require_postgres()
    status = runs[engine].process.wait()
    output = runs[engine].output.read_text("utf-8")
    assert status == 0, output
    assert "examples" in output
