"""Clients of a bank that send at random, twice, and again after every doubtful answer.

What each operation was told is kept: `bank_check` judges it when all is over.
"""

import asyncio
import contextlib
import json
import random
import time
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from credits.client import ADMIN_KEY, SERVICE_KEY, bearer

if TYPE_CHECKING:
    from collections.abc import Callable

USERS = tuple(f"user-{number}" for number in range(6))
CLIENTS = 32
_ATTEMPTS = 3
_TIMEOUT_SECONDS = 15.0
_PAUSE_SECONDS = 0.2
_RECENT = 200
# Answers that say nothing about the operation: it may be asked again under its key.
_DOUBTFUL = frozenset({409, 503})
_REMEMBERED = frozenset({200, 201, 402})


@dataclass
class Operation:
    """One request, and all that was ever answered to it.

    Attributes:
        kind: what it is, as in the history.
        key: its idempotency key; None where repeating changes nothing by nature.
        settled: the status and body that it was told first and must be told for ever.
        refusal: the status of a refusal that is not remembered, if that was the last answer.
        doubts: how often it was sent without learning what became of it.
    """

    kind: str
    method: str
    path: str
    user_id: str
    body: dict[str, Any] | None = None
    key: str | None = None
    is_admin: bool = False
    settled: tuple[int, bytes] | None = None
    refusal: int | None = None
    doubts: int = 0

    @property
    def answer(self) -> dict[str, Any] | None:
        """The body of success, or None."""
        if self.settled is None or not httpx.codes.is_success(self.settled[0]):
            return None
        decoded: dict[str, Any] = json.loads(self.settled[1])
        return decoded

    @property
    def is_unknown(self) -> bool:
        """Whether nobody knows what became of it."""
        return self.settled is None and self.refusal is None

    def hear(self, answer: httpx.Response) -> None:
        """Take note of an answer; one that contradicts an earlier one is what we look for."""
        if answer.status_code in _DOUBTFUL and (
            answer.status_code != httpx.codes.CONFLICT or "request_in_progress" in answer.text
        ):
            assert answer.headers["retry-after"], self
            self.doubts += 1
            return
        assert answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR, f"{self}: {answer.text}"
        told = (answer.status_code, answer.content)
        if answer.status_code not in _REMEMBERED:
            assert self.key is None or self.settled is None, f"{self} is told {told} later"
            self.refusal = answer.status_code
        elif self.settled is None:
            self.settled, self.refusal = told, None
        elif self.key is not None:
            assert told == self.settled, f"{self} is told {told} later"


@dataclass
class Bank:
    """The clients, the services that they talk to, and the history.

    Attributes:
        seed: with it, the same operations are chosen.
        urls: of the services; a killed one gets another when it is back.
    """

    seed: int
    urls: list[str]
    history: list[Operation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)  # noqa: S311 - repeatable, no secret
        limits = httpx.Limits(max_connections=2 * CLIENTS)
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, limits=limits)
        self._sent = self._goal = 0
        self._goal_reached = asyncio.Event()
        self._charges: list[Operation] = []
        self._holds: list[Operation] = []

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, operation: Operation) -> httpx.Response | None:
        """Send it to one of the services; None where no answer came back."""
        headers = bearer(ADMIN_KEY if operation.is_admin else SERVICE_KEY)
        if operation.key is not None:
            headers["Idempotency-Key"] = operation.key
        url = f"{self._rng.choice(self.urls)}/api/v1{operation.path}"
        try:
            answer = await self._http.request(
                operation.method, url, json=operation.body, headers=headers
            )
        except httpx.TransportError:
            operation.doubts += 1
            # A service that is down refuses at once: without a pause its clients would spin.
            await asyncio.sleep(_PAUSE_SECONDS)
            return None
        finally:
            self._count()
        operation.hear(answer)
        return answer

    async def open_accounts(self) -> None:
        """Give every account some credit."""
        for user_id in USERS:
            funding = self._top_up(user_id)
            self.history.append(funding)
            await self.settle(funding)

    async def settle(self, operation: Operation) -> None:
        """Ask until it is known what became of an operation."""
        while operation.is_unknown:
            await self.send(operation)

    async def run(self, until: float) -> None:
        """Let all clients work until a moment of the monotonic clock."""
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self._client(until))

    async def _client(self, until: float) -> None:
        while time.monotonic() < until:
            if self._rng.random() < 0.05:
                await self._read()
                continue
            if self._rng.random() < 0.1:
                await self.send(self._rng.choice(self.history[-_RECENT:]))
                continue
            operation = self._choose()
            self.history.append(operation)
            await self._perform(operation)

    async def _perform(self, operation: Operation) -> None:
        if operation.key is not None and self._rng.random() < 0.1:
            await asyncio.gather(self.send(operation), self.send(operation))
        for _ in range(_ATTEMPTS):
            if not operation.is_unknown:
                break
            await self.send(operation)
        if operation.answer is not None:
            if operation.kind in {"bill", "capture"}:
                self._charges.append(operation)
            elif operation.kind == "hold":
                self._holds.append(operation)

    async def _read(self) -> None:
        """At every moment an account's figures fit together."""
        user_id = self._rng.choice(USERS)
        url = f"{self._rng.choice(self.urls)}/api/v1/accounts/{user_id}"
        with contextlib.suppress(httpx.TransportError):
            answer = await self._http.get(url, headers=bearer(SERVICE_KEY))
            assert answer.status_code in {200, 503}, answer.text
            if answer.is_success:
                account = answer.json()
                balance, held = Decimal(account["balance"]), Decimal(account["held"])
                assert Decimal(account["available"]) == balance - held >= 0
        self._count()

    def _count(self) -> None:
        self._sent += 1
        if self._sent >= self._goal:
            self._goal_reached.set()

    async def after_requests(self, count: int, until: float) -> None:
        """Wait until the clients have sent so many more, or a moment has come."""
        self._goal = self._sent + count
        self._goal_reached.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._goal_reached.wait(), until - time.monotonic())

    def _choose(self) -> Operation:
        makers: list[tuple[Callable[[str], Operation], int]] = [
            (self._bill, 30),
            (self._top_up, 8),
            (self._hold, 20),
            (self._change_account, 3),
        ]
        if self._holds:
            makers += [(self._raise, 8), (self._capture, 18), (self._release, 6)]
        if self._charges:
            makers.append((self._refund, 7))
        maker = self._rng.choices([m for m, _ in makers], [weight for _, weight in makers])[0]
        return maker(self._rng.choice(USERS))

    def _amount(self, most_nanos: int) -> str:
        return f"{Decimal(self._rng.randint(1, most_nanos)).scaleb(-9):f}"

    def _key(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128)))

    def _bill(self, user_id: str) -> Operation:
        body = {"user_id": user_id, "amount": self._amount(2 * 10**9)}
        return Operation("bill", "POST", "/bill", user_id, body, self._key())

    def _top_up(self, user_id: str) -> Operation:
        body = {"user_id": user_id, "amount": self._amount(10 * 10**9)}
        return Operation("topup", "POST", "/topup", user_id, body, self._key(), is_admin=True)

    def _hold(self, user_id: str) -> Operation:
        body = {"user_id": user_id, "amount": self._amount(2 * 10**9)}
        return Operation("hold", "POST", "/holds", user_id, body, self._key())

    def _some_hold(self) -> tuple[str, str]:
        hold = self._rng.choice(self._holds[-_RECENT:])
        assert hold.answer is not None
        return hold.answer["hold_id"], hold.user_id

    def _raise(self, _user_id: str) -> Operation:
        hold_id, user_id = self._some_hold()
        body = {"amount": self._amount(3 * 10**9)}
        return Operation("raise", "PATCH", f"/holds/{hold_id}", user_id, body)

    def _capture(self, _user_id: str) -> Operation:
        hold_id, user_id = self._some_hold()
        final = self._rng.random() < 0.8
        body = {"user_id": user_id, "amount": self._amount(10**9), "hold_id": hold_id}
        return Operation("capture", "POST", "/bill", user_id, {**body, "final": final}, self._key())

    def _release(self, _user_id: str) -> Operation:
        hold_id, user_id = self._some_hold()
        return Operation("release", "DELETE", f"/holds/{hold_id}", user_id)

    def _refund(self, _user_id: str) -> Operation:
        charge = self._rng.choice(self._charges[-_RECENT:])
        assert charge.answer is not None
        body = {"reason": "bank"}
        if self._rng.random() < 0.5:
            body["amount"] = self._amount(10**9)
        path = f"/transactions/{charge.answer['transaction_id']}/refund"
        return Operation("refund", "POST", path, charge.user_id, body, self._key(), is_admin=True)

    def _change_account(self, user_id: str) -> Operation:
        body: dict[str, Any] = {"status": self._rng.choice(("frozen", "open", "open"))}
        if self._rng.random() < 0.5:
            limit = self._rng.choice((None, self._amount(10**12)))
            body = {"limits": {self._rng.choice(("day", "month", "total")): limit}}
        return Operation("change", "PATCH", f"/accounts/{user_id}", user_id, body, is_admin=True)

    def write_history(self, file: Path) -> None:
        """Write one line for each operation."""
        with file.open("w") as lines:
            for operation in self.history:
                lines.write(f"{operation}\n")
