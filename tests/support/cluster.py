"""The cluster of `make cluster`, run for tests on stores of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from support.canaries import assert_nothing_leaked
from support.components import skip_or_fail
from support.nginx import nginx_program
from support.postgres_cluster import server_binaries, temporary_folder
from support.processes import ServiceProcess
from support.stack import ADMIN_KEY, CLIENT_KEY, SERVICE_KEY, Stack

ROOT = Path(__file__).resolve().parents[2]
RUNNER = ROOT / "deploy" / "cluster" / "run_cluster.py"
UP = "Ctrl-C stops all of it."
RESTARTED = "Every process of the services has been restarted."
STOPPED = "Everything has been stopped."
_STOP_SECONDS = 180
_WAIT_SECONDS = 240
_PAUSE_SECONDS = 0.05
SERVICES = ("credits-1", "credits-2", "proxy-1", "proxy-2")


def serving(url: str) -> ServiceProcess:
    """Return what stands in for a process of which only the address matters."""
    return cast("ServiceProcess", SimpleNamespace(url=url))


class Cluster:
    """The running cluster.

    Attributes:
        folder: its `DATA_DIR`.
        process: the runner.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self._output = folder / "output"
        (folder / "cluster").mkdir()
        keys = {"demo": CLIENT_KEY, "service": SERVICE_KEY, "admin": ADMIN_KEY}
        (folder / "cluster" / "local-keys.json").write_text(json.dumps(keys))
        inherited = {
            name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ
        }
        self._env = {
            **inherited,
            "PYTHONPATH": str(ROOT / "deploy" / "local"),
            "DATA_DIR": str(folder),
            "GATEWAY_PORT": "0",
            **settings,
        }
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(RUNNER), str(folder)],
                env=self._env,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """All that the runner has shown."""
        return self._output.read_text()

    def wait_for(self, text: str, times: int = 1) -> None:
        """Return once the runner has shown a text so often; fail if it ends before."""
        give_up_at = time.monotonic() + _WAIT_SECONDS
        while self.output.count(text) < times:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < give_up_at, f"never shown: {text}\n{self.output}"
            time.sleep(_PAUSE_SECONDS)

    def found(self, pattern: str) -> str:
        """Return the last group that a pattern finds in what was shown."""
        return str(re.findall(pattern, self.output, re.MULTILINE)[-1])

    @property
    def url(self) -> str:
        """nginx's, on TLS."""
        return self.found(r"^OPENAI_BASE_URL=(\S+)/v1$")

    @property
    def certificate(self) -> str:
        """The file that clients trust."""
        return self.found(r"^SSL_CERT_FILE=(\S+)$")

    @property
    def proxy_urls(self) -> list[str]:
        """Of the proxies, behind nginx."""
        line = self.found(r"^Behind nginx: (.*)$")
        return re.findall(r"http://[\d.]+:\d+", line)[:2]

    @property
    def credits_url(self) -> str:
        """Of both credits services."""
        line = self.found(r"^Behind nginx: (.*)$")
        return str(re.findall(r"http://[\d.]+:\d+", line)[2])

    def leader(self, name: str) -> int:
        """Return the process id of a program's first process, of its latest run that is ready."""
        return int(self.found(rf"^{name} is ready \(process (\d+)\)"))

    def workers(self, name: str) -> set[int]:
        """Return the process ids of a service's workers."""
        found = set()
        for file in Path(f"/proc/{self.leader(name)}/task").glob("*/children"):
            for child in file.read_text().split():
                arguments = Path(f"/proc/{child}/cmdline")
                if arguments.exists() and b"spawn_main" in arguments.read_bytes():
                    found.add(int(child))
        return found

    def stack(self) -> Stack:
        """Return the system as other tests see it, by way of nginx."""
        simulator, ledger = serving(self.simulator_url), serving(self.credits_url)
        return Stack(self.folder, "", simulator, ledger, serving(self.url))

    @property
    def simulator_url(self) -> str:
        """Of the simulator, by its own log."""
        log = (self.folder / "cluster" / "logs" / "simulator.1.log").read_text()
        return next(
            str(json.loads(line)["url"]) for line in log.splitlines() if '"listening"' in line
        )

    def restart(self) -> None:
        """Have every process of the services restarted, as an operator does."""
        done = self.output.count(RESTARTED)
        subprocess.run(
            [sys.executable, str(RUNNER), "restart", str(self.folder)],
            env=self._env,
            check=True,
            capture_output=True,
            timeout=_STOP_SECONDS,
        )
        self.wait_for(RESTARTED, done + 1)

    def stop(self) -> int:
        """End it as Ctrl-C does, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(_STOP_SECONDS)

    def assert_logs_are_clean(self) -> None:
        """No key, prompt or answer is in the log of any program."""
        logs = sorted((self.folder / "cluster" / "logs").glob("*.log"))
        assert_nothing_leaked((log.name, log.read_text(errors="replace")) for log in logs)


@contextmanager
def running_cluster(**settings: str) -> Iterator[Cluster]:
    """Run the cluster on stores of its own; stop it and remove its data afterwards."""
    nginx_program()
    server_binaries()
    if shutil.which("redis-server") is None:
        skip_or_fail("redis-server is not installed")
    folder = temporary_folder(None)
    cluster = Cluster(folder, **settings)
    try:
        cluster.wait_for(UP)
        yield cluster
        assert cluster.stop() == 0, cluster.output
        assert STOPPED in cluster.output
        cluster.assert_logs_are_clean()
    finally:
        if cluster.process.poll() is None:
            cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
