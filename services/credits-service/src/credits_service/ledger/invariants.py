"""What must be true of every account, whatever happened: checked by folding its history.

The numbers are those of the promise in the documentation. Pure: rows in, violations out.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from credits_service.core.money import MAX_NANOS, nanos_ceil
from credits_service.ledger.journal import COUNTER_LEG, Entry, LotUse, Transaction, chain_hash
from credits_service.ledger.lots import is_due, order_of
from credits_service.ledger.state import GENESIS_HASH, Account, Hold, Lot


class Violation(NamedTuple):
    """A broken invariant."""

    invariant: str
    user_id: str | None
    detail: str


class AccountAudit:
    """Folds one account's transactions in order of their numbers, then its holds.

    Args:
        account: the account's row.
        lots: all its lots, used up ones too.
    """

    def __init__(self, account: Account, lots: Iterable[Lot]) -> None:
        self._account = account
        self._lots: Mapping[str, Lot] = {lot.id: lot for lot in lots}
        self._violations: list[Violation] = []
        self._seq = 0
        self._balance = 0
        self._shortfall = 0
        self._booked_at = 0
        self._hash = GENESIS_HASH
        self._remaining: dict[str, int] = {}
        self._held: dict[str, int] = defaultdict(int)
        self._captured: dict[str, int] = defaultdict(int)
        self._captured_expiry: dict[str, int] = {}

    def transaction(self, transaction: Transaction, entries: list[Entry]) -> None:
        """Take the account's next transaction with its entries."""
        self._check_entries(transaction, entries)
        self._seq += 1
        self._require("3 seq without gaps", transaction.seq == self._seq, transaction)
        self._balance += transaction.amount_nanos
        self._require(
            "4 balance_after follows", transaction.balance_after_nanos == self._balance, transaction
        )
        self._require(
            "6 available never negative",
            0 <= transaction.held_after_nanos <= transaction.balance_after_nanos,
            transaction,
        )
        self._require(
            "17 history in order of time",
            transaction.booked_at_micros >= self._booked_at,
            transaction,
        )
        self._booked_at = transaction.booked_at_micros
        self._check_charge(transaction)
        self._check_order(transaction)
        for use in transaction.lots:
            self._use(transaction, use)
        self._hash = chain_hash(self._hash, transaction, entries)
        self._require("19 hash chain", transaction.hash == self._hash, transaction)
        # From here on what is stored counts, so that one changed row is one violation.
        self._hash = transaction.hash
        self._balance = transaction.balance_after_nanos
        self._seq = transaction.seq

    def hold(self, hold: Hold) -> None:
        """Take one of the account's holds."""
        name = f"hold {hold.id}"
        captured = self._captured.pop(hold.id, 0)
        self._expect("11 captured is what was booked", captured, hold.captured_nanos, name)
        self._ensure("11 captured within amount", captured <= hold.amount_nanos, name)
        ended = hold.status != "active"
        self._ensure("11 a hold ends once", ended == (hold.ended_at_micros is not None), name)
        reserved = sum(part.nanos for part in hold.lots)
        self._expect("5 reserved in lots", reserved, hold.uncaptured_nanos, name)
        for lot_id, nanos in hold.lots:
            self._held[lot_id] += nanos
        expiry = self._captured_expiry.pop(hold.id, None)
        placed_before = expiry is None or hold.created_at_micros < expiry
        self._ensure("9 expired lot only for a hold placed before", placed_before, name)

    def finish(self) -> list[Violation]:
        """Compare what was folded with the account and lots as they stand."""
        account = self._account
        self._expect("2 balance is the sum of entries", self._balance, account.balance_nanos)
        self._expect("3 last seq", self._seq, account.seq)
        self._expect("5 held is the sum of holds", sum(self._held.values()), account.held_nanos)
        self._ensure("6 available", 0 <= account.held_nanos <= account.balance_nanos, "now")
        remaining = sum(lot.remaining_nanos for lot in self._lots.values())
        self._expect("7 lots sum up to the balance", remaining, account.balance_nanos)
        for lot in self._lots.values():
            self._check_lot(lot)
        self._ensure("11 captures belong to holds", not self._captured, "unknown holds")
        shortfall = min(MAX_NANOS, self._shortfall)
        self._expect("shortfalls add up", shortfall, account.shortfall_nanos)
        self._ensure("19 hash chain", self._hash == account.head_hash, "head")
        return self._violations

    def _check_lot(self, lot: Lot) -> None:
        name = f"lot {lot.id}"
        self._ensure("7 lot bounds", 0 <= lot.remaining_nanos <= lot.granted_nanos, name)
        self._ensure("7 lot bounds", 0 <= lot.held_nanos <= lot.remaining_nanos, name)
        folded = self._remaining.get(lot.id, 0)
        self._expect("10 lot is granted less used", folded, lot.remaining_nanos, name)
        self._expect("5 lot's held part", self._held[lot.id], lot.held_nanos, name)

    def _check_entries(self, transaction: Transaction, entries: list[Entry]) -> None:
        amount = transaction.amount_nanos
        self._require("1 entries sum to 0", not sum(e.amount_nanos for e in entries), transaction)
        found = {entry.leg: entry.amount_nanos for entry in entries}
        wanted = {"wallet": amount, COUNTER_LEG[transaction.kind]: -amount} if amount else {}
        self._require("20 legs of the transaction", found == wanted, transaction)
        own = all(entry.user_id == transaction.user_id for entry in entries)
        self._require("20 legs of the account", own, transaction)

    def _check_charge(self, transaction: Transaction) -> None:
        if transaction.kind != "charge":
            return
        self._shortfall += transaction.shortfall_nanos
        requested = transaction.requested_nanos
        parts = (
            transaction.settled_before_nanos
            + transaction.shortfall_nanos
            - transaction.amount_nanos
        )
        self._require("18 parts of the charge", requested == parts, transaction)
        if transaction.exact_cost_picos is not None:
            exact = nanos_ceil(int(transaction.exact_cost_picos))
            self._require("18 charged is the cost rounded up", requested == exact, transaction)

    def _check_order(self, transaction: Transaction) -> None:
        """Use must follow the declared order; where nothing was held, it can be foretold."""
        known = all(use.lot_id in self._lots for use in transaction.lots)
        self._require("7 lots exist", known, transaction)
        if transaction.kind != "charge" or not known:
            return
        free = [use for use in transaction.lots if not use.from_hold]
        order = [order_of(self._lots[use.lot_id]) for use in free]
        self._require("8 lots in order", order == sorted(order), transaction)
        if transaction.hold_id is None and not transaction.held_after_nanos:
            foretold = self._greedy(-transaction.amount_nanos)
            actual = {use.lot_id: use.nanos for use in free}
            self._require("8 first lots first", actual == foretold, transaction)

    def _greedy(self, nanos: int) -> dict[str, int]:
        uses: dict[str, int] = {}
        for lot in sorted((self._lots[lot_id] for lot_id in self._remaining), key=order_of):
            part = min(self._remaining[lot.id], nanos)
            if part:
                uses[lot.id] = part
                nanos -= part
        return uses

    def _use(self, transaction: Transaction, use: LotUse) -> None:
        lot = self._lots.get(use.lot_id)
        if lot is None:
            return
        if transaction.kind == "topup":
            self._require("7 a lot is granted once", lot.id not in self._remaining, transaction)
            self._require("7 granted", use.nanos == lot.granted_nanos, transaction)
            self._remaining[lot.id] = use.nanos
            return
        self._remaining[lot.id] = self._remaining.get(lot.id, 0) - use.nanos
        self._require("7 lot never negative", self._remaining[lot.id] >= 0, transaction)
        due = is_due(lot, transaction.booked_at_micros)
        if transaction.kind == "lot_expiry":
            self._require("9 only due lots expire", due, transaction)
        elif not use.from_hold:
            self._require("9 nothing from an expired lot", not due, transaction)
        elif transaction.hold_id is not None:
            self._capture(transaction.hold_id, lot, use.nanos)

    def _capture(self, hold_id: str, lot: Lot, nanos: int) -> None:
        self._captured[hold_id] += nanos
        if lot.expires_at_micros is not None:
            earliest = self._captured_expiry.get(hold_id, lot.expires_at_micros)
            self._captured_expiry[hold_id] = min(earliest, lot.expires_at_micros)

    def _require(self, invariant: str, holds: bool, transaction: Transaction) -> None:
        if not holds:
            detail = f"transaction {transaction.id}, seq {transaction.seq}"
            self._violations.append(Violation(invariant, self._account.user_id, detail))

    def _ensure(self, invariant: str, holds: bool, where: str) -> None:
        if not holds:
            self._violations.append(Violation(invariant, self._account.user_id, where))

    def _expect(self, invariant: str, folded: int, stored: int, where: str = "account") -> None:
        self._ensure(invariant, folded == stored, f"{where}: folded {folded}, stored {stored}")
