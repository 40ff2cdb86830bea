"""A process that holds keys writes no core file and can't be read by its own user's programs."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from support.kit_app import AUTHORIZED
from support.kit_process import kit_process

_ASK = """
import ctypes, resource
from service_kit.memory_protection import forbid_core_dumps
prctl = ctypes.CDLL(None).prctl
PR_GET_DUMPABLE = 3
before = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
forbid_core_dumps()
print(before, prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_process_can_be_made_undumpable() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _ASK], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.split() == ["1", "0", "0", "0"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("allowed", ["false", "true"])
def test_every_process_of_a_service_is(tmp_path: Path, workers: str, allowed: str) -> None:
    """The workers and the one that watches over them, unless the operator allows it."""
    with kit_process(
        tmp_path, WORKERS=workers, CORE_DUMPS_ALLOWED=allowed, RATE_LIMIT_ENABLED="false"
    ) as process:
        pids = {process.process.pid}
        while len(pids) <= int(workers) - (workers == "1"):
            # Each on a connection of its own, which any of the workers may take.
            answer = httpx.get(f"{process.url}/v1/pid", headers=AUTHORIZED, timeout=60)
            pids.add(answer.json()["pid"])
        limits = {_core_limit(pid) for pid in pids}
    assert limits == {"0" if allowed == "false" else _core_limit("self")}


def _core_limit(pid: int | str) -> str:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("Max core file size"))
    return line.split()[5]
