"""What the simulator remembers between requests: queued faults, gates, and what it received."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct, field

State = Literal["open", "completed", "refused", "cut", "disconnected"]


class Changes:
    """Lets any number of tasks wait until something holds, without polling."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def announce(self) -> None:
        """Make every waiting task look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_until(
        self, holds: Callable[[], bool], timeout_seconds: float | None = None
    ) -> bool:
        """Wait until the condition holds; tell whether it did within the time."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while not holds():
                    await self._changed.wait()
        except TimeoutError:
            return holds()
        return True


class QueuedFault(Struct):
    """Orders for the next requests that match.

    Attributes:
        orders: as in a directive.
        times: how many requests are left.
        model: only for this model.
        method: only for this method, for example `generateContent`.
    """

    orders: dict[str, Any]
    times: int = 1
    model: str | None = None
    method: str | None = None


class Faults:
    """A queue; the oldest fault that matches a request is used."""

    def __init__(self) -> None:
        self.queue: list[QueuedFault] = []

    def take(self, model: str, method: str) -> dict[str, Any]:
        """Return the orders for a request, and count them as used."""
        for fault in self.queue:
            if fault.model in {None, model} and fault.method in {None, method}:
                fault.times -= 1
                if fault.times <= 0:
                    self.queue.remove(fault)
                return fault.orders
        return {}


class Gate:
    """Passes a token for each one released; open for good once opened."""

    def __init__(self) -> None:
        self.released = 0
        self.waiting = 0
        self.is_open = False
        self.changes = Changes()

    async def pass_through(self, units: int) -> None:
        """Wait until as many tokens are released, and use them up."""
        self.waiting += 1
        self.changes.announce()
        try:
            await self.changes.wait_until(lambda: self.is_open or self.released >= units)
        finally:
            self.waiting -= 1
        if not self.is_open:
            self.released -= units
        self.changes.announce()

    def release(self, tokens: int) -> None:
        """Let this many more tokens pass."""
        self.released += tokens
        self.changes.announce()

    def open(self) -> None:
        """Let everything pass from now on."""
        self.is_open = True
        self.changes.announce()


class RecordedRequest(Struct):
    """One request as received, and what became of it.

    Attributes:
        number: counts from 1 since the start.
        method: HTTP method.
        headers: names in lower case, without any key's value.
        key_sha256: first 16 hexadecimal digits of the key's SHA-256, to tell keys apart.
        body: JSON, or text where it is none.
        state: `open` while it runs; `disconnected` when the client went away first.
        status: HTTP status sent.
        tokens: answer tokens produced.
        usage: the last `usageMetadata` that was sent.
    """

    number: int
    method: str
    path: str
    query: str
    headers: dict[str, str]
    key_sha256: str | None = None
    body: Any = None
    state: State = "open"
    status: int | None = None
    tokens: int = 0
    usage: dict[str, Any] | None = None
    disconnected: bool = False


class Recorder:
    """The last requests, and how many are running."""

    def __init__(self, size: int) -> None:
        self.requests: deque[RecordedRequest] = deque(maxlen=size)
        self.open_streams = 0
        self.open_requests = 0
        self.changes = Changes()
        self._number = 0

    def open(self, **received: Any) -> RecordedRequest:
        """Record a request."""
        self._number += 1
        entry = RecordedRequest(number=self._number, **received)
        self.requests.append(entry)
        self.open_requests += 1
        self.changes.announce()
        return entry

    def close(self, entry: RecordedRequest) -> None:
        """Note that a request has ended."""
        self.open_requests -= 1
        self.changes.announce()


class Memory(Struct):
    """All of it."""

    recorder: Recorder
    faults: Faults = field(default_factory=Faults)
    gates: dict[str, Gate] = field(default_factory=dict)

    def gate(self, name: str) -> Gate:
        """Return the gate of a name; it exists from its first use."""
        return self.gates.setdefault(name, Gate())
