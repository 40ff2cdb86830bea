"""A service on a ledger with a history, and what is asked of it: each call is checked."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import quote

import msgspec
from benchmarks.client import Client
from benchmarks.history import STEP_MICROS, Shape
from benchmarks.processes import BenchmarkError, Running
from benchmarks.services import balance_nanos, nanos, top_up

PAGE = 50
BILLS = 500
AMOUNT_USD, AMOUNT_NANOS = "0.000001", 1_000
_GRANTED_USD = 1_000
# About a thousand transactions of the hot account, however long its history is.
_PERIOD = timedelta(microseconds=10 * STEP_MICROS)
_IN_PERIOD = 1_000


class Grown:
    """A service whose ledger has a history of a certain shape.

    Attributes:
        service: its process.
        shape: what the ledger holds.
    """

    def __init__(self, service: Running, shape: Shape) -> None:
        self.service = service
        self.shape = shape
        self._hot = f"/accounts/{shape.hot}"
        self._others = shape.users()[1:]
        self._random = Random(shape.seed)  # noqa: S311 - figures, no secrets
        self._client = Client(service.url)
        self._charged_nanos = 0
        top_up(service, shape.hot, _GRANTED_USD)
        self._began_with_nanos = balance_nanos(service, shape.hot)
        self._seq: int = self._client.get(self._hot)["seq"]
        # Moments are drawn from between these, so that a whole period comes after each.
        last = max(self._seq // 2, int(self._seq * 0.9) - _IN_PERIOD)
        # The first is a top-up; charges begin when all accounts are open.
        self._first_at = self._booked_at(2)
        self._last_at = self._booked_at(last)

    def _booked_at(self, seq: int) -> datetime:
        page = self._client.get(f"{self._hot}/transactions?limit=1&cursor={seq + 1}")
        return datetime.fromisoformat(page["transactions"][0]["booked_at"])

    @property
    def operations(self) -> dict[str, Callable[[], None]]:
        """Everything that is measured."""
        return {
            "charge, hot account": lambda: self._charge(self.shape.hot),
            "charge, any account": lambda: self._charge(self._random.choice(self._others)),
            "hold and capture, hot account": self._hold_and_capture,
            f"batch of {BILLS} charges, hot account": self._batch,
            "balance": self._balance,
            "balance at a moment": self._balance_at,
            f"transactions, a page of {PAGE}": self._transactions,
            f"statement, a page of {PAGE}": self._statement,
        }

    def _charge(self, user: str, **more: Any) -> None:
        body = {"user_id": user, "amount": AMOUNT_USD, "description": "bench", **more}
        _expect(self._client.post("/bill", body), amount=AMOUNT_USD, user_id=user)
        if user == self.shape.hot:
            self._charged_nanos += AMOUNT_NANOS

    def _hold_and_capture(self) -> None:
        hot = self.shape.hot
        hold = self._client.post("/holds", {"user_id": hot, "amount": "0.000002"})
        self._charge(hot, hold_id=hold["hold_id"])

    def _batch(self) -> None:
        bill = {"user_id": self.shape.hot, "amount": AMOUNT_USD, "description": "bench"}
        operations = [{"op": "bill", "body": bill}] * BILLS
        results = self._client.post("/batch", {"operations": operations})["results"]
        taken = sum(
            result["status"] == 200 and result["body"]["amount"] == AMOUNT_USD  # noqa: PLR2004
            for result in results
        )
        if taken != BILLS:
            raise BenchmarkError(f"{taken} of {BILLS} charges of a batch were taken: {results[0]}")
        self._charged_nanos += BILLS * AMOUNT_NANOS

    def _balance(self) -> None:
        _expect(self._client.get(self._hot), user_id=self.shape.hot, held="0")

    def _balance_at(self) -> None:
        moment = _rfc3339(self._moment())
        found = self._client.get(f"{self._hot}?at={moment}")
        if not 0 < found["seq"] < self._seq:
            raise BenchmarkError(f"not the balance of {moment}: {found}")

    def _transactions(self) -> None:
        cursor = self._random.randrange(PAGE + 1, self._seq)
        found = self._client.get(f"{self._hot}/transactions?limit={PAGE}&cursor={cursor}")
        _expect_page(found, cursor - 1)

    def _statement(self) -> None:
        begin = self._moment()
        period = f"from={_rfc3339(begin)}&to={_rfc3339(begin + _PERIOD)}"
        found = self._client.get(f"{self._hot}/statement?{period}&limit={PAGE}")
        _expect_page(found, None)
        taken = sum(map(nanos_of, found["totals"].values()))
        if nanos_of(found["opening_balance"]) + taken != nanos_of(found["closing_balance"]):
            raise BenchmarkError(f"the statement of {period} does not add up")

    def _moment(self) -> datetime:
        """Draw a moment of the history."""
        return self._first_at + (self._last_at - self._first_at) * self._random.random()

    def statement_csv(self) -> int:
        """Read the whole history as CSV and return its number of lines."""
        begin, end = self._first_at, datetime.now(UTC) + timedelta(days=1)
        period = f"from={_rfc3339(begin)}&to={_rfc3339(end)}"
        path = f"{self._hot}/statement?{period}&format=csv"
        lines = sum(piece.count(b"\n") for piece in self._client.stream(path))
        if lines < self._seq:
            raise BenchmarkError(f"{lines} lines for more than {self._seq} transactions")
        return lines

    def integrity(self) -> int:
        """Have the hot account's whole history checked; return its number of transactions."""
        pieces = self._client.stream(f"/integrity?user_id={self.shape.hot}")
        found = msgspec.json.decode(b"".join(pieces))
        if not found["ok"] or found["transactions"] < self._seq:
            raise BenchmarkError(f"the ledger is not sound: {found}")
        return int(found["transactions"])

    def close(self) -> None:
        """Check that the charges explain the balance, and leave the service."""
        left_nanos = balance_nanos(self.service, self.shape.hot)
        if left_nanos != self._began_with_nanos - self._charged_nanos:
            raise BenchmarkError(f"the charges do not explain {left_nanos} nano-USD")
        self._client.close()


def nanos_of(usd: str) -> int:
    """Convert a signed amount that the API wrote, exactly."""
    return -nanos(usd[1:]) if usd.startswith("-") else nanos(usd)


def _rfc3339(moment: datetime) -> str:
    return quote(moment.astimezone(UTC).isoformat(timespec="microseconds"))


def _expect(found: dict[str, Any], **fields: Any) -> None:
    wrong = {name: found.get(name) for name, value in fields.items() if found.get(name) != value}
    if wrong:
        raise BenchmarkError(f"{wrong} instead of {fields}: {found}")


def _expect_page(found: dict[str, Any], first_seq: int | None) -> None:
    numbers = [booked["seq"] for booked in found["transactions"]]
    first = next(iter(numbers), 0) if first_seq is None else first_seq
    ways = list(range(first, first + PAGE)), list(range(first, first - PAGE, -1))
    if numbers not in ways:
        raise BenchmarkError(f"not a page of {PAGE} from {first}: {numbers}")
