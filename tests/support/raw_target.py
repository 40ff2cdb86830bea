"""A running service that is sent whatever bytes, and how one sees that it took no harm."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx

from support.odd_requests import Paid
from support.processes import ServiceProcess
from support.raw_http_fuzz import Answer, CutShortError, answers_in, exchange, exchange_all

# Each look is a turn of the service's event loop, in which it closes what has ended.
_LOOKS_MAX = 500
_WARM_UP = 50
# Pools of connections may still grow a little; a leak would be hundreds.
_FILES_MORE_MAX = 16
_SWITCHING_PROTOCOLS = 101
_UNFORESEEN = (
    *("unhandled", "Traceback", "Exception", "Task was destroyed", "never retrieved"),
    *('"level":"error"', '"level":"critical"'),
)


class Target:
    """A service.

    Attributes:
        process: the only one of it.
        paid: a request to it that somebody pays for.
    """

    def __init__(self, process: ServiceProcess, paid: Paid) -> None:
        self.process = process
        self.paid = paid
        exchange_all(self.url, [paid.written()] * _WARM_UP)
        self._files = self._open_files()

    @property
    def url(self) -> str:
        """Its base URL."""
        return self.process.url

    def assert_lives(self) -> None:
        """Check that it serves what is paid for, and tells its health."""
        answers = exchange(self.url, self.paid.written())
        assert [answer.status for answer in answers] == [200, 200], answers

    def assert_sound(self, sent: bytes, stream: bytes, *, whole: bool = True) -> list[Answer]:
        """Check what came back for what was sent, and return the answers.

        They are HTTP, none is a failure of the service's own, none leaves HTTP/1.1, and refusals
        have the service's form.

        Args:
            sent: shown if anything is wrong.
            stream: all that came.
            whole: whether the last answer must be.
        """
        try:
            answers = answers_in(stream)
        except CutShortError:
            assert not whole, (sent, stream)
            return []
        for answer in answers:
            assert answer.status < 500, (sent, answer)
            assert answer.status != _SWITCHING_PROTOCOLS, (sent, answer)
            if answer.status >= 400:
                told = json.loads(answer.body)
                assert answer.headers["x-request-id"], (sent, answer)
                assert "error" in told or told["status"] == answer.status, (sent, answer)
        return answers

    def assert_unharmed(self) -> None:
        """Check that nothing unforeseen was logged, and that of the connections nothing is left."""
        bad = [line for line in self.process.lines if any(word in line for word in _UNFORESEEN)]
        assert bad == []
        most = self._files + _FILES_MORE_MAX
        assert self._settles(lambda: self._open_files() <= most), self._open_files()
        # This question itself is one.
        assert self._settles(lambda: self._requests_running() == 1), self._requests_running()

    def _settles(self, holds: Callable[[], bool]) -> bool:
        return any(holds() or not exchange(self.url, b"") for _ in range(_LOOKS_MAX))

    def _open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.process.pid}/fd").iterdir()))

    def _requests_running(self) -> float:
        metrics = httpx.get(f"{self.url}/metrics", headers={"accept": "text/plain"}).text
        name = "http_server_active_requests "
        found = [line for line in metrics.splitlines() if line.startswith(name)]
        assert found, metrics
        return float(found[0].split()[1])
