"""The books of the model: its lots, holds and charges, and the figures that they make."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

Lots = list[tuple["ModelLot", int]]
Answer = tuple[int, dict[str, Any]]

LIMITS = ("day", "month", "total")


def usd(nanos: int) -> str:
    """Write nano-USD as clients read it."""
    return format(Decimal(nanos).scaleb(-9).normalize(), "f")


def moment(micros: int) -> str:
    """Write a moment as clients read it."""
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(eq=False)
class ModelLot:
    priority: int
    expires_at: int | None
    number: int
    left: int

    def order(self) -> tuple[int, float, int]:
        """Lower priority first, then what ends first, then what was there first."""
        ends = math.inf if self.expires_at is None else self.expires_at
        return self.priority, ends, self.number


@dataclass(eq=False)
class ModelKey:
    """An issued key: its limits by their names, and what charges have taken for it, and when."""

    user_id: str
    limits: dict[str, int | None] = field(default_factory=dict)
    spendings: list[tuple[int, int]] = field(default_factory=list)
    revoked: bool = False


# Its id, and the key; what is nobody's key has an id as well.
Key = tuple[str | None, ModelKey | None]
NO_KEY: Key = (None, None)


@dataclass(eq=False)
class ModelHold:
    user_id: str
    number: int
    amount: int
    expires_at: int
    carried: Lots
    key: ModelKey | None = None
    captured: int = 0
    used: int = 0
    progress: int = 0
    status: str = "active"
    charged_at_expiry: int = 0
    late_captured: bool = False

    def rest(self) -> int:
        return sum(nanos for _lot, nanos in self.carried)

    def fields(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "amount": usd(self.amount),
            "captured": usd(self.captured),
            "progress": usd(self.progress),
            "expires_at": moment(self.expires_at),
        }


@dataclass(eq=False)
class ModelCharge:
    """What is left of a charge: the lots that it took from, each once, and how much."""

    user_id: str
    left: Lots
    seq: int = 0
    given_back: int = 0

    def rest(self) -> int:
        return sum(nanos for _lot, nanos in self.left)


@dataclass(eq=False)
class ModelAccount:
    lots: list[ModelLot] = field(default_factory=list)
    shortfall: int = 0
    spendings: list[tuple[int, int]] = field(default_factory=list)
    seq: int = 0
    terms: dict[str, Any] = field(default_factory=lambda: {"status": "open", "low_balance": None})
    history: list[tuple[int, int]] = field(default_factory=list)
    low_balances: int = 0
    expired_holds: int = 0


@dataclass
class Books:
    """What the model keeps, the figures that it tells, and how credit moves between lots."""

    default_low_balance: int
    now: int = 0
    accounts: dict[str, ModelAccount] = field(default_factory=dict)
    holds: list[ModelHold] = field(default_factory=list)

    def held(self, user_id: str) -> int:
        return sum(hold.rest() for hold in self.holds if hold.user_id == user_id)

    def held_for(self, key: ModelKey) -> int:
        return sum(hold.rest() for hold in self.holds if hold.key is key)

    def available(self, user_id: str) -> int:
        account = self.accounts.get(user_id)
        return sum(lot.left for lot in account.lots) if account else 0

    def balance(self, user_id: str) -> int:
        return self.held(user_id) + self.available(user_id)

    def figures(self, user_id: str) -> dict[str, Any]:
        return {
            "user_id": user_id,
            "balance": usd(self.balance(user_id)),
            "held": usd(self.held(user_id)),
            "available": usd(self.available(user_id)),
            "seq": self.accounts[user_id].seq,
        }

    def balance_at(self, user_id: str, micros: int) -> int:
        past = [nanos for at, nanos in self.accounts[user_id].history if at <= micros]
        return past[-1] if past else 0

    def spent(self, spendings: list[tuple[int, int]]) -> dict[str, int]:
        return {
            "day": sum(n for at, n in spendings if moment(at)[:10] == moment(self.now)[:10]),
            "month": sum(n for at, n in spendings if moment(at)[:7] == moment(self.now)[:7]),
            "total": sum(n for _at, n in spendings),
        }

    def spendable(self, user_id: str, key: ModelKey | None) -> tuple[int, str | None]:
        """Return what a new charge or hold may take, and which limit it is that allows no more."""
        options: list[tuple[int, str | None]] = [(self.available(user_id), None)]
        for name, left in self.left(user_id).items():
            options.append((max(0, left - self.held(user_id)), name))
        if key is not None:
            for name, left in self._left(key.limits, key.spendings).items():
                options.append((max(0, left - self.held_for(key)), f"key_{name}"))
        return min(options, key=lambda option: option[0])

    def left(self, user_id: str) -> dict[str, int]:
        if user_id not in self.accounts:
            return {}
        account = self.accounts[user_id]
        return self._left(account.terms, account.spendings)

    def left_of(self, key: ModelKey | None) -> list[int]:
        return [] if key is None else list(self._left(key.limits, key.spendings).values())

    def _left(self, limits: dict[str, Any], spendings: list[tuple[int, int]]) -> dict[str, int]:
        spent = self.spent(spendings)
        return {name: limits[name] - spent[name] for name in LIMITS if limits.get(name) is not None}

    def hold_fields(self, hold: ModelHold) -> dict[str, Any]:
        spendable = usd(self.spendable(hold.user_id, hold.key)[0])
        return hold.fields() | self.figures(hold.user_id) | {"spendable": spendable}

    def account_fields(self, user_id: str) -> dict[str, Any]:
        account = self.accounts[user_id]
        terms, low = account.terms, account.terms["low_balance"]
        return {
            **self.figures(user_id),
            "status": terms["status"],
            "shortfall": usd(account.shortfall),
            "spendable": usd(self.spendable(user_id, None)[0]),
            "low_balance": None if low is None else usd(low),
            "limits": {n: None if terms.get(n) is None else usd(terms[n]) for n in LIMITS},
            "spent": {name: usd(nanos) for name, nanos in self.spent(account.spendings).items()},
        }

    def settle_due(self, user_id: str) -> None:
        self.expire_lots(user_id)
        due = [h for h in self.holds if h.user_id == user_id and h.status == "active"]
        for hold in sorted(due, key=lambda hold: (hold.expires_at, hold.number)):
            if hold.expires_at <= self.now:
                used = max(0, hold.progress - hold.used)
                if used:
                    self.use(hold, used)
                self.end(hold, "expired")
                hold.charged_at_expiry = used
                self.accounts[user_id].expired_holds += 1
                self.expire_lots(user_id)
        self.note(user_id)

    def use(self, hold: ModelHold, amount: int) -> tuple[ModelCharge, int]:
        """Spend what the hold carries, then free credit; return what is missing, too."""
        account = self.accounts[hold.user_id]
        carried: Lots = []
        taken: Lots = []
        for lot, nanos in sorted(hold.carried, key=lambda part: part[0].order()):
            used = min(nanos, amount)
            amount -= used
            hold.captured += used
            taken.append((lot, used))
            carried.append((lot, nanos - used))
        hold.carried = [(lot, nanos) for lot, nanos in carried if nanos]
        free = min(amount, self.available(hold.user_id))
        taken += self.take(hold.user_id, free)
        account.shortfall += amount - free
        by_lot = {lot: sum(n for other, n in taken if other is lot) for lot, _nanos in taken}
        charge = ModelCharge(hold.user_id, [(lot, n) for lot, n in by_lot.items() if n])
        if charge.rest():
            self.spend(hold.user_id, hold.key, charge.rest())
        account.seq += 1
        charge.seq = account.seq
        return charge, amount - free

    def spend(self, user_id: str, key: ModelKey | None, amount: int) -> None:
        self.accounts[user_id].spendings.append((self.now, amount))
        if key is not None:
            key.spendings.append((self.now, amount))

    def end(self, hold: ModelHold, status: str) -> None:
        for lot, nanos in hold.carried:
            lot.left += nanos
        hold.carried = []
        hold.status = status

    def take(self, user_id: str, amount: int) -> Lots:
        taken: Lots = []
        lots = self.accounts[user_id].lots if amount else []
        for lot in sorted(lots, key=ModelLot.order):
            part = min(lot.left, amount)
            lot.left -= part
            amount -= part
            if part:
                taken.append((lot, part))
        return taken

    def expire_lots(self, user_id: str) -> None:
        account = self.accounts.get(user_id)
        for lot in account.lots if account else ():
            if account and lot.left and lot.expires_at is not None and lot.expires_at <= self.now:
                lot.left = 0
                account.seq += 1

    def note(self, user_id: str) -> None:
        """Write down the balance if it has changed, and whether it has become low."""
        account = self.accounts.get(user_id)
        if account is None:
            return
        before, balance = self.balance_at(user_id, self.now), self.balance(user_id)
        threshold = account.terms["low_balance"] or self.default_low_balance
        account.low_balances += before >= threshold > balance
        if balance != before:
            account.history.append((self.now, balance))
