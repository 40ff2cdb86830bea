"""Real processes for tests: start a console script, wait until it listens, end it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

_BIN = Path(sys.executable).parent
_START_TIMEOUT_SECONDS = 60
_STOP_TIMEOUT_SECONDS = 30


class ServiceProcess:
    """One of the project's commands, running and listening on a port of its own.

    Attributes:
        url: base URL that the process announced.
        lines: everything it has written so far, one string a line.
    """

    def __init__(
        self, command: str, env: Mapping[str, str], *args: str, cwd: Path | None = None
    ) -> None:
        self.lines: list[str] = []
        self.url = ""
        self._changed = threading.Condition()
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
                self.lines.append(line.rstrip("\n"))
                if not self.url and '"listening"' in line:
                    self.url = json.loads(line)["url"]
                self._changed.notify_all()
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

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(_STOP_TIMEOUT_SECONDS)
        self._release()
        return code

    def __enter__(self) -> Self:
        return self.wait_until_listening()

    def __exit__(self, *_exc: object) -> None:
        self.stop()
