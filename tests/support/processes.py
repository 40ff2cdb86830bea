"""Real processes for tests: start a console script, wait until it listens, end it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from support.canaries import assert_nothing_leaked, plant_settings

_BIN = Path(sys.executable).parent
_START_TIMEOUT_SECONDS = 60
_STOP_TIMEOUT_SECONDS = 30
_METRICS_TIMEOUT_SECONDS = 5
# What is asked here is no test's: its lines are searched, and kept apart from all others.
_OWN_REQUEST = "asked-at-the-end-by-the-search"


class ServiceProcess:
    """One of the project's commands, running and listening on a port of its own.

    Whichever way it ends, a secret of its settings, a prompt or an answer in what it has shown
    fails the test.

    Attributes:
        url: base URL that the process announced.
        lines: everything it has written so far, one string a line.
        tests_the_mask: whether it logs keys on purpose, to show what the log's mask makes of them.
    """

    def __init__(
        self, command: str, env: Mapping[str, str], *args: str, cwd: Path | None = None
    ) -> None:
        self.lines: list[str] = []
        self.url = ""
        self._changed = threading.Condition()
        self._shown: list[tuple[str, str]] = []
        self._own_lines: list[str] = []
        self._name = command
        self.tests_the_mask = False
        plant_settings(env)
        # Only what is named is inherited, so that a developer's own settings change no test.
        inherited = {
            name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ
        }
        self.process = subprocess.Popen(
            [str(_BIN / command), *args],
            cwd=cwd,
            env={**inherited, "HOST": "127.0.0.1", "PORT": "0", "LOG_FORMAT": "json", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                own = f'"{_OWN_REQUEST}"' in line
                (self._own_lines if own else self.lines).append(line.rstrip("\n"))
                if not self.url and '"listening"' in line:
                    self.url = json.loads(line)["url"]
                self._changed.notify_all()
        # Its output ends a moment before it does: who waits must not look in between.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_START_TIMEOUT_SECONDS)
        with self._changed:
            self._changed.notify_all()

    def wait_until_listening(self) -> Self:
        """Return once the process has said where it listens; fail with its output otherwise."""
        with self._changed:
            ended = self._changed.wait_for(
                lambda: self.url or self.process.poll() is not None, _START_TIMEOUT_SECONDS
            )
            if not ended or not self.url:
                self.process.kill()
                raise AssertionError("did not start:\n" + "\n".join(self.lines))
        return self

    def wait_for_log(self, text: str, timeout_seconds: float = 30, times: int = 1) -> str:
        """Return the first line that contains the text, or the nth, waiting for it if need be."""

        def found() -> str | None:
            lines = [line for line in self.lines if text in line]
            return lines[times - 1] if len(lines) >= times else None

        with self._changed:
            line = self._changed.wait_for(found, timeout_seconds)
        if line is None:
            raise AssertionError(f"never logged {text!r}:\n" + "\n".join(self.lines))
        return line

    def wait_for_event(self, timeout_seconds: float = 30, **fields: Any) -> dict[str, Any]:
        """Return the first JSON log line with these members, waiting for it if need be."""
        seen = 0

        def found() -> dict[str, Any] | None:
            nonlocal seen
            while seen < len(self.lines):
                line = self.lines[seen]
                seen += 1
                event = json.loads(line) if line.startswith("{") else {}
                if all(event.get(name) == value for name, value in fields.items()):
                    return event
            return None

        with self._changed:
            event = self._changed.wait_for(found, timeout_seconds)
        if event is None:
            raise AssertionError(f"never logged {fields}:\n" + "\n".join(self.lines[-50:]))
        return event

    def events(self) -> list[dict[str, Any]]:
        """Return the log lines that are JSON, decoded."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL, nothing flushed, nothing answered."""
        self._note_arguments()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(_STOP_TIMEOUT_SECONDS)
        self._release()

    def wait(self) -> int:
        """Wait until it ends by itself, and return its exit code."""
        code = self.process.wait(_START_TIMEOUT_SECONDS)
        self._release()
        return code

    def _release(self) -> None:
        self._reader.join(_STOP_TIMEOUT_SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.assert_nothing_leaked()

    def assert_nothing_leaked(self) -> None:
        """Search all that it has shown so far; its end does so as well.

        Raises:
            LeakError: a secret, a prompt or an answer is there.
        """
        output = ("output", "\n".join([*self.lines, *self._own_lines]))
        assert_nothing_leaked(
            ((f"the {what} of {self._name}", text) for what, text in [*self._shown, output]),
            masked_ones=not self.tests_the_mask,
        )

    def _note_arguments(self) -> None:
        """Take down what anybody on the machine can read of it and of its children."""
        waiting = [self.process.pid]
        while waiting:
            folder = Path(f"/proc/{waiting.pop()}")
            # It, or one of its threads, may end at any moment.
            with contextlib.suppress(OSError):
                arguments = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                self._shown.append(("argument list", os.fsdecode(arguments)))
                for children in folder.glob("task/*/children"):
                    waiting += map(int, children.read_text().split())

    def _note_metrics(self) -> None:
        """Take down its metrics in both forms, if it still tells them."""
        with (
            # What the environment says of proxies and certificates is for the outside world.
            httpx.Client(
                base_url=self.url, timeout=_METRICS_TIMEOUT_SECONDS, trust_env=False
            ) as client,
            contextlib.suppress(httpx.HTTPError),
        ):
            named = {"x-request-id": _OWN_REQUEST}
            for accept in ("application/json", "text/plain"):
                answer = client.get("/metrics", headers={"accept": accept, **named})
                self._shown.append((f"metrics as {accept}", answer.text))

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        if self.process.poll() is None:
            self._note_arguments()
            if self.url:
                self._note_metrics()
            self.process.terminate()
        code = self.process.wait(_STOP_TIMEOUT_SECONDS)
        self._release()
        return code

    def __enter__(self) -> Self:
        return self.wait_until_listening()

    def __exit__(self, *_exc: object) -> None:
        self.stop()
