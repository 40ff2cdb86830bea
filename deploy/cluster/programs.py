"""The programs of the cluster: each is started, watched, started anew, and ended in order."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from children import LAST_LINES, die_with_parent
from local_settings import LocalRunError

# What ends so often before it is ready will not become so.
FAILURES_MAX = 5
RETRY_SECONDS = 1.0
START_SECONDS = 90
# A socket on stdin becomes descriptor 3, where sd_listen_fds(3) looks for it; `exec` keeps the
# process id that LISTEN_PID has to name.
_HAND_OVER = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@" 3<&0 </dev/null'


@dataclass(frozen=True, slots=True)
class Plan:
    """How a program is run.

    Attributes:
        name: what it is called here.
        command: the program and its arguments.
        environment: all of it.
        is_ready: tells of a run, by what it has written, whether it serves.
        listener: the socket that it serves; it stays open from one run to the next.
        ends_at: the signal at which it ends in order.
        end_seconds: how long that may take.
        user: whom it runs as; None for ours.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    is_ready: Callable[[str], bool]
    listener: socket.socket | None = None
    ends_at: signal.Signals = signal.SIGTERM
    end_seconds: float = 15
    user: str | None = None


class Run:
    """One run of a program: a group of processes.

    Attributes:
        log: the file that takes all it writes.
    """

    def __init__(self, plan: Plan, folder: Path, log: Path) -> None:
        self.log = log
        self._plan = plan
        self._serves = False
        self._end_by: float | None = None
        command = list(plan.command)
        if plan.listener is not None:
            command = ["/bin/sh", "-c", _HAND_OVER, *command]
        whose: dict[str, object] = (
            {"user": plan.user, "group": plan.user, "extra_groups": []} if plan.user else {}
        )
        with log.open("wb") as written:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]  # noqa: S603 - options by name; the plan's command
                command,
                cwd=folder,
                env=dict(plan.environment),
                stdin=subprocess.DEVNULL if plan.listener is None else plan.listener,
                stdout=written,
                stderr=subprocess.STDOUT,
                # A group of its own: the terminal's Ctrl-C reaches only us, who keep the order.
                process_group=0,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - this program has no threads
                **whose,
            )

    @property
    def has_ended(self) -> bool:
        """Whether its first process is gone."""
        return self.process.poll() is not None

    @property
    def serves(self) -> bool:
        """Whether it has been ready, once."""
        if not self._serves:
            self._serves = not self.has_ended and self._plan.is_ready(self._written())
        return self._serves

    def begin_end(self) -> None:
        """Ask all of it to end in order; what a killed supervisor has left behind hears it too."""
        if self._end_by is None:
            self._end_by = time.monotonic() + self._plan.end_seconds
            if self.has_ended:
                self._signal_group(self._plan.ends_at)
            else:
                self.process.send_signal(self._plan.ends_at)

    def is_over(self) -> bool:
        """Return whether nothing of it is left; end by force what has had its time."""
        if self._end_by is not None and time.monotonic() > self._end_by:
            self.kill()
            return True
        return self.has_ended and not self._signal_group(None)

    def kill(self) -> None:
        """End all of it at once."""
        self._signal_group(signal.SIGKILL)
        self.process.wait()

    def how_it_ended(self) -> str:
        """Say how, and what it wrote last."""
        code = self.process.returncode
        how = (
            f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        )
        lines = self._written().splitlines()[-LAST_LINES:]
        shown = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
        return f"{self._plan.name} {how}. The last it wrote ({self.log}):\n{shown}"

    def _written(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _signal_group(self, number: signal.Signals | None) -> bool:
        """Send a signal to all processes, or none; return whether there were any."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number or 0)
            return True
        return False


class Program:
    """A program that is to run for as long as the cluster does.

    Attributes:
        name: what it is called here.
        run: the one that counts.
    """

    def __init__(self, plan: Plan, data_dir: Path, say: Callable[[str], None]) -> None:
        self.name = plan.name
        self._plan = plan
        self._data_dir = data_dir
        self._say = say
        self._runs = 0
        self._failures = 0
        self._again_at: float | None = None
        self._said_ready = False
        self._leaving: list[Run] = []
        self.run = self._launch()

    def _launch(self) -> Run:
        self._runs += 1
        log = self._data_dir / "logs" / f"{self.name}.{self._runs}.log"
        run = Run(self._plan, self._data_dir, log)
        self._say(f"Starting {self.name} (process {run.process.pid}, log: {log}) …")
        return run

    def tend(self) -> None:
        """Start it anew if it has ended by itself; see old runs out.

        Raises:
            LocalRunError: it ends again and again before it is ready.
        """
        self._leaving = [run for run in self._leaving if not run.is_over()]
        if self._again_at is not None:
            if time.monotonic() > self._again_at:
                self._again_at = None
                self.run = self._launch()
        elif self.run.has_ended:
            self._replace_ended()
        elif self.run.serves and not self._said_ready:
            self._said_ready = True
            self._failures = 0
            self._say(f"{self.name} is ready (process {self.run.process.pid}).")

    def _replace_ended(self) -> None:
        self._failures += not self._said_ready
        if self._failures >= FAILURES_MAX:
            raise LocalRunError(self.run.how_it_ended())
        self._say(self.run.how_it_ended().partition("\n")[0])
        self._retire(self.run)
        # At once where it served; what can't start yet (PostgreSQL's last processes are still
        # there, say) is given a moment.
        self._again_at = time.monotonic() + (0 if self._said_ready else RETRY_SECONDS)
        self._said_ready = False

    def check_start(self) -> None:
        """Raise `LocalRunError` if it has ended: what does not come up at first never will."""
        if self.run.has_ended:
            raise LocalRunError(self.run.how_it_ended())

    @property
    def serves(self) -> bool:
        """Whether it is ready."""
        return self._again_at is None and self._said_ready and not self.run.has_ended

    def restart(self, wait_until: Callable[[Callable[[], bool], float], bool]) -> bool:
        """Start a new run beside the old one, and end the old one once the new one serves.

        Args:
            wait_until: waits for a condition so many seconds at most, and returns whether it came.

        Returns:
            Whether it worked; otherwise the old run goes on.
        """
        new = self._launch()
        try:
            wait_until(lambda: new.serves or new.has_ended, START_SECONDS)
        except BaseException:
            self._retire(new)
            raise
        if not new.serves:
            new.kill()
            self._say(f"{new.how_it_ended()}\nThe old {self.name} goes on.")
            return False
        self._say(f"{self.name} is ready (process {new.process.pid}).")
        old, self.run, self._said_ready, self._again_at = self.run, new, True, None
        self._retire(old)
        return wait_until(lambda: old not in self._leaving, 2 * self._plan.end_seconds)

    def _retire(self, run: Run) -> None:
        run.begin_end()
        self._leaving.append(run)

    def begin_end(self) -> None:
        """Ask it to end, for good."""
        if not self.run.has_ended:
            self._say(f"Stopping {self.name} …")
        self._retire(self.run)

    def is_over(self) -> bool:
        """Return whether nothing of it is left."""
        self._leaving = [run for run in self._leaving if not run.is_over()]
        return not self._leaving

    def kill(self) -> None:
        """End all of it at once."""
        for run in (*self._leaving, self.run):
            run.kill()
