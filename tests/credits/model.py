"""A second, simpler account of what the ledger must do, for the rules to be compared with.

Here a hold takes its credit out of the lots and carries it, and nothing is journalled; the
rules leave it in the lots and mark it. Both must come to the same figures.
"""

from dataclasses import dataclass, field

Lots = list[tuple["ModelLot", int]]


@dataclass
class ModelLot:
    priority: int
    expires_at: int | None
    number: int
    left: int


@dataclass
class ModelHold:
    user_id: str
    number: int
    amount: int
    expires_at: int
    carried: Lots
    captured: int = 0
    used: int = 0
    progress: int = 0
    status: str = "active"
    charged_at_expiry: int = 0
    late_captured: bool = False

    def rest(self) -> int:
        return sum(nanos for _lot, nanos in self.carried)


@dataclass
class ModelAccount:
    lots: list[ModelLot] = field(default_factory=list)
    shortfall: int = 0
    charged: int = 0


@dataclass
class Model:
    """Every method returns the HTTP status that the service must answer with."""

    now: int = 0
    accounts: dict[str, ModelAccount] = field(default_factory=dict)
    holds: dict[str, ModelHold] = field(default_factory=dict)

    def held(self, user_id: str) -> int:
        return sum(hold.rest() for hold in self.holds.values() if hold.user_id == user_id)

    def available(self, user_id: str) -> int:
        account = self.accounts.get(user_id)
        return sum(lot.left for lot in account.lots) if account else 0

    def settle_due(self, user_id: str) -> None:
        self._expire_lots(user_id)
        due = [h for h in self.holds.values() if h.user_id == user_id and h.status == "active"]
        for hold in sorted(due, key=lambda hold: (hold.expires_at, hold.number)):
            if hold.expires_at <= self.now:
                used = max(0, hold.progress - hold.used)
                self._use(hold, used)
                self._end(hold, "expired")
                hold.charged_at_expiry = used
                self._expire_lots(user_id)

    def top_up(self, user_id: str, amount: int, priority: int, expires_at: int | None) -> int:
        if expires_at is not None and expires_at <= self.now:
            return 422
        account = self.accounts.setdefault(user_id, ModelAccount())
        account.lots.append(ModelLot(priority, expires_at, len(account.lots), amount))
        return 201

    def bill(self, user_id: str, amount: int) -> int:
        if amount > self.available(user_id):
            return 402
        self._take(user_id, amount)
        self.accounts[user_id].charged += amount
        return 200

    def place(self, user_id: str, amount: int, minimum: int | None) -> tuple[int, int]:
        """Return the status and how much is held."""
        reserved = min(amount, self.available(user_id))
        if reserved < (minimum or amount):
            return 402, 0
        return 201, reserved

    def add_hold(self, hold_id: str, user_id: str, amount: int, ttl: int) -> None:
        carried = self._take(user_id, amount)
        self.holds[hold_id] = ModelHold(user_id, len(self.holds), amount, self.now + ttl, carried)

    def amend(self, hold: ModelHold, amount: int | None, ttl: int | None, progress: int) -> int:
        if hold.status != "active":
            return 409
        extra = max(0, (amount or 0) - hold.amount)
        if extra > self.available(hold.user_id):
            return 402
        hold.carried += self._take(hold.user_id, extra)
        hold.amount += extra
        hold.expires_at = max(hold.expires_at, self.now + (ttl or 0))
        hold.progress = max(hold.progress, progress)
        return 200

    def capture(self, hold: ModelHold, amount: int, *, final: bool) -> int:
        late = hold.status == "expired" and not hold.late_captured
        if hold.status != "active" and not late:
            return 409
        hold.used += amount
        counted = min(amount, hold.charged_at_expiry)
        hold.charged_at_expiry -= counted
        self._use(hold, amount - counted)
        if late:
            hold.late_captured = final
        elif final:
            self._end(hold, "captured")
        self._expire_lots(hold.user_id)
        return 200

    def release(self, hold: ModelHold) -> int:
        if hold.status == "active":
            self._end(hold, "released")
            self._expire_lots(hold.user_id)
        return 200

    def _use(self, hold: ModelHold, amount: int) -> None:
        """Spend what the hold carries, then free credit, then write down what is missing."""
        account = self.accounts[hold.user_id]
        account.charged += amount
        carried: Lots = []
        for lot, nanos in hold.carried:
            used = min(nanos, amount)
            amount -= used
            hold.captured += used
            if nanos > used:
                carried.append((lot, nanos - used))
        hold.carried = carried
        free = min(amount, self.available(hold.user_id))
        self._take(hold.user_id, free)
        account.shortfall += amount - free
        account.charged -= amount - free

    def _end(self, hold: ModelHold, status: str) -> None:
        for lot, nanos in hold.carried:
            lot.left += nanos
        hold.carried = []
        hold.status = status

    def _take(self, user_id: str, amount: int) -> Lots:
        taken: Lots = []
        lots = self.accounts[user_id].lots if amount else []
        far = max((lot.expires_at or 0 for lot in lots), default=0) + 1
        for lot in sorted(lots, key=lambda x: (x.priority, x.expires_at or far, x.number)):
            part = min(lot.left, amount)
            lot.left -= part
            amount -= part
            if part:
                taken.append((lot, part))
        return taken

    def _expire_lots(self, user_id: str) -> None:
        account = self.accounts.get(user_id)
        for lot in account.lots if account else ():
            if lot.expires_at is not None and lot.expires_at <= self.now:
                lot.left = 0
