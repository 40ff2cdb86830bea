"""Charges that go on and on, and when each was asked for and acknowledged."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from credits.client import CreditsClient
from support.postgres_cluster import wait_until

_THREADS = 3
_WAIT_SECONDS = 60


@dataclass(frozen=True)
class Charged:
    """An acknowledged charge.

    Attributes:
        transaction_id: as it was answered.
        asked_at: Unix time before the request was sent.
        acknowledged_at: Unix time once its answer was read.
    """

    transaction_id: str
    asked_at: float
    acknowledged_at: float


class Charges:
    """Charges an account from several threads until it is told to stop."""

    def __init__(self, url: str, user_id: str) -> None:
        self._url = url
        self._user_id = user_id
        self._done: list[Charged] = []
        self._failures: list[str] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._charge) for _ in range(_THREADS)]

    def _charge(self) -> None:
        with CreditsClient(self._url) as client:
            while not self._stopping.is_set():
                asked_at = time.time()
                answer = client.bill(self._user_id, "0.01")
                if answer.status_code != 200:
                    self._failures.append(answer.text)
                    return
                identity = answer.json()["transaction_id"]
                self._done.append(Charged(identity, asked_at, time.time()))

    def acknowledged(self) -> list[Charged]:
        """Return what has been acknowledged up to now."""
        assert self._failures == []
        return list(self._done)

    def wait_for_more(self, count: int) -> None:
        """Return once so many more were acknowledged."""
        target = len(self._done) + count
        wait_until("more is charged", lambda: self._failures or len(self._done) >= target)
        assert self._failures == []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(_WAIT_SECONDS)


@contextmanager
def charging(url: str, user_id: str) -> Iterator[Charges]:
    """Charge an account of a credits service while the block runs."""
    charges = Charges(url, user_id)
    charges.start()
    try:
        yield charges
    finally:
        charges.stop()
