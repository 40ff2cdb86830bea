"""The programs of a local run as child processes: started one by one, ended in order."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from local_settings import LocalRunError

START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 15
POLL_SECONDS = 0.05
LAST_LINES = 20
_PR_SET_PDEATHSIG = 1

# Straight to this machine, whatever proxy the environment names for the outside.
http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class StopRequestedError(Exception):
    """Ctrl-C or SIGTERM came."""


class Signals:
    """Notes that the run is to end.

    Handlers that only take a note can't tear anything apart halfway: no child is ever
    started and forgotten.
    """

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1

    def check(self) -> None:
        """Raise `StopRequestedError` once a signal has come."""
        if self.count:
            raise StopRequestedError


class Child:
    """One program of the run.

    Attributes:
        name: its command.
        log: the file that takes all it writes.
        url: where it said that it listens.
    """

    def __init__(self, name: str, environment: Mapping[str, str], data_dir: Path) -> None:
        self.name = name
        self.log = data_dir / "logs" / f"{name}.log"
        self.url = ""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 - the project's own commands
                [str(Path(sys.executable).parent / name)],
                # Not the project's folder: what its .env says is in the environment already.
                cwd=data_dir,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: the terminal's Ctrl-C reaches only us, who keep the order.
                process_group=0,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - this program has no threads
            )

    def wait_until_ready(self, path: str, signals: Signals) -> None:
        """Return once it listens and answers 200 on the path.

        Raises:
            LocalRunError: it ended, or took too long.
            StopRequestedError: a signal came.
        """
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._is_ready(path):
            signals.check()
            self.check()
            if time.monotonic() > deadline:
                raise LocalRunError(
                    f"{self.name} is not ready after {START_TIMEOUT_SECONDS} s.{self._ending()}"
                )
            time.sleep(POLL_SECONDS)

    def _is_ready(self, path: str) -> bool:
        self.url = self.url or _announced_url(self.log)
        if not self.url:
            return False
        try:
            with http.open(f"{self.url}{path}", timeout=2) as response:
                return bool(response.status == 200)  # noqa: PLR2004 - HTTP's OK
        except OSError:
            return False

    def check(self) -> None:
        """Raise `LocalRunError` if it has ended by itself."""
        code = self.process.poll()
        if code is None:
            return
        how = (
            f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        )
        raise LocalRunError(f"{self.name} {how}.{self._ending()}")

    def _ending(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        shown = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
        return f" The last it wrote ({self.log}):\n{shown}"

    def stop(self, signals: Signals) -> None:
        """End it: politely first, by force after a while or at a further signal."""
        if self.process.poll() is None:
            self.process.terminate()
            already = signals.count
            deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
            while self.process.poll() is None:
                if time.monotonic() > deadline or signals.count > max(1, already):
                    break
                time.sleep(POLL_SECONDS)
        # The whole group: nothing that it started may stay behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _announced_url(log: Path) -> str:
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if '"listening"' in line:
            with contextlib.suppress(ValueError):
                return str(json.loads(line).get("url", ""))
    return ""


def die_with_parent() -> Callable[[], None] | None:
    """Return what a child does first so that it ends with us even if we are killed."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)  # we were killed before the child could ask

    return ask_kernel


def post_json(
    url: str, body: Mapping[str, str], headers: Mapping[str, str], *, done_already: str
) -> None:
    """Send a request that must have its effect, now or from an earlier time.

    Args:
        url: where to.
        body: a JSON object.
        headers: further headers.
        done_already: the error code that says that an earlier request had the effect.

    Raises:
        LocalRunError: it was refused or did not arrive; the message shows the answer.
    """
    request = urllib.request.Request(  # noqa: S310 - always http to this machine
        url,
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", **headers},
        method="POST",
    )
    try:
        http.open(request, timeout=10).close()
    except urllib.error.HTTPError as error:
        answer = error.read().decode(errors="replace")
        if done_already not in answer:
            raise LocalRunError(f"POST {url} was answered {error.code}: {answer}") from None
    except OSError as error:
        raise LocalRunError(f"POST {url} failed: {error}") from None
