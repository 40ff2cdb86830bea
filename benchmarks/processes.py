"""Start what is measured, and read what the operating system says about it."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
from benchmarks.load import Load, Measured

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
_START_SECONDS_MAX = 60
_STOP_SECONDS_MAX = 30
_POLL_SECONDS = 0.005
_PR_SET_PDEATHSIG = 1
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_prctl = ctypes.CDLL(None).prctl

# Straight to this machine, whatever proxy the environment names for the outside.
_http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class BenchmarkError(Exception):
    """A process did not start, or an answer or a balance is wrong: nothing is reported then."""


def module(name: str, *arguments: str) -> list[str]:
    """Return the command of one of the benchmarks' own modules."""
    return [sys.executable, "-m", f"benchmarks.{name}", *arguments]


def command(name: str) -> list[str]:
    """Return one of the project's commands."""
    return [str(BIN / name)]


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    # Only what is named is inherited, so that nobody's own settings change a figure.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    # This tree's own sources, also where the environment was built for another copy of it.
    sources = os.pathsep.join(map(str, [ROOT, *sorted(ROOT.glob("services/*/src"))]))
    return {**kept, "PYTHONPATH": sources, "HOST": "127.0.0.1", "PORT": "0", **settings}


class Running:
    """A process that listens.

    Attributes:
        url: where it said that it listens.
        started_at: `time.perf_counter` when it was started.
    """

    def __init__(self, arguments: Sequence[str], settings: Mapping[str, str], log: Path) -> None:
        self._log = log
        self.started_at = time.perf_counter()
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the project's own commands
                arguments,
                cwd=log.parent,
                env=_environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # It ends with us, even if we are killed.
                preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),  # noqa: PLW1509 - no threads here
            )
        try:
            self.url = self._announced_url()
        except BaseException:
            self.stop()
            raise

    def _announced_url(self) -> str:
        while time.perf_counter() < self.started_at + _START_SECONDS_MAX:
            for line in self._log.read_text(errors="replace").splitlines():
                if '"listening"' in line:
                    with contextlib.suppress(ValueError):
                        return str(json.loads(line)["url"])
            if self._process.poll() is not None:
                break
            time.sleep(_POLL_SECONDS)
        raise BenchmarkError(f"did not start:\n{self._log.read_text(errors='replace')[-2000:]}")

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all its threads, in user mode and in the kernel."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND

    @property
    def rss_mb(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * _PAGE_BYTES / 1_000_000

    @property
    def peak_mb(self) -> float:
        """The most memory that was resident since `forget_peak`."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1_000_000

    def forget_peak(self) -> None:
        """Let the peak begin at what is resident now."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


class LoadRun:
    """A load client on its way, as a process of its own."""

    def __init__(self, load: Load) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            module("load"),
            env=_environment({}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(load))
        self._process.stdin.close()

    @property
    def is_running(self) -> bool:
        """Whether it is not done yet."""
        return self._process.poll() is None

    def result(self) -> Measured:
        """Wait for it.

        Raises:
            BenchmarkError: an answer was wrong or missing.
        """
        assert self._process.stdout is not None
        with self._process.stdout as output:
            written = output.read()
        if self._process.wait() != 0:
            raise BenchmarkError("the load client failed")
        measured = msgspec.json.decode(written, type=Measured)
        if measured.error is not None:
            raise BenchmarkError(measured.error)
        return measured


def run_load(load: Load) -> Measured:
    """Send a load from a process of its own and return what came of it."""
    return LoadRun(load).result()


def fetch(url: str, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
    """Send one request, a POST if there is a body, and return the answer's body."""
    request = urllib.request.Request(url, body, dict(headers))  # noqa: S310 - http to this machine
    with _http.open(request, timeout=120) as response:
        content: bytes = response.read()
    return content


def fetch_json(url: str, headers: Mapping[str, str], body: bytes | None = None) -> Any:
    """Do the same and decode the answer."""
    return json.loads(fetch(url, headers, body))
