"""What must be true of every account, whatever happened: checked by folding its history.

The numbers are those of the promise in the documentation. Pure: rows in, violations out.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from credits_service.core.money import MAX_NANOS, nanos_ceil
from credits_service.ledger.hold_audit import audit_hold
from credits_service.ledger.journal import COUNTER_LEG, Entry, LotUse, Transaction, chain_hash
from credits_service.ledger.key_audit import KeyAudit
from credits_service.ledger.lots import is_due, order_of
from credits_service.ledger.operations import CHANGEABLE
from credits_service.ledger.spending import count_spent
from credits_service.ledger.state import GENESIS_HASH, Account, Hold, KeySpending, Lot
from credits_service.ledger.topups import new_account, terms_of
from credits_service.ledger.violations import Violation, Violations

__all__ = ["AccountAudit", "Violation"]

_SPENT = ("spent_total_nanos", "spent_day_nanos", "spent_month_nanos", "spent_at_micros")


class AccountAudit:
    """Folds one account's transactions in order of their numbers, then its holds.

    Args:
        account: the account's row.
        lots: all its lots, used up ones too.
        keys: all its issued keys, revoked ones too.
    """

    def __init__(
        self, account: Account, lots: Iterable[Lot], keys: Iterable[KeySpending] = ()
    ) -> None:
        self.violations = Violations(account.user_id)
        self._keys = KeyAudit(keys, self.violations)
        self._account = account
        self._lots: Mapping[str, Lot] = {lot.id: lot for lot in lots}
        # An account as the journal tells of it.
        self._folded = new_account(account.user_id, 0).account
        self._hash = GENESIS_HASH
        self._remaining: dict[str, int] = {}
        self._held: dict[str, int] = defaultdict(int)

    def transaction(self, transaction: Transaction, entries: list[Entry]) -> None:
        """Take the account's next transaction with its entries."""
        folded, require = self._folded, self.violations.require
        self._check_entries(transaction, entries)
        folded.seq += 1
        folded.balance_nanos += transaction.amount_nanos
        require("3 seq without gaps", transaction.seq == folded.seq, transaction)
        follows = transaction.balance_after_nanos == folded.balance_nanos
        require("4 balance_after follows", follows, transaction)
        never = 0 <= transaction.held_after_nanos <= transaction.balance_after_nanos
        require("6 available never negative", never, transaction)
        in_order = transaction.booked_at_micros >= folded.updated_at_micros
        require("17 history in order of time", in_order, transaction)
        folded.updated_at_micros = transaction.booked_at_micros
        self._check_charge(transaction)
        self._check_order(transaction)
        for use in transaction.lots:
            self._use(transaction, use)
        if transaction.kind == "account_change":
            self._change(transaction)
        self._hash = chain_hash(self._hash, transaction, entries)
        require("19 hash chain", transaction.hash == self._hash, transaction)
        # From here on what is stored counts, so that one changed row is one violation.
        self._hash = transaction.hash
        folded.balance_nanos = transaction.balance_after_nanos
        folded.seq = transaction.seq

    def hold(self, hold: Hold, captures: Sequence[Transaction]) -> None:
        """Take one of the account's holds with the charges on it."""
        audit_hold(hold, captures, self._lots, self.violations)
        self._keys.hold(hold, captures)
        for lot_id, nanos in hold.lots:
            self._held[lot_id] += nanos

    def finish(self) -> list[Violation]:
        """Compare what was folded with the account and lots as they stand."""
        account, folded = self._account, self._folded
        expect, ensure = self.violations.expect, self.violations.ensure
        expect("2 balance is the sum of entries", folded.balance_nanos, account.balance_nanos)
        expect("3 last seq", folded.seq, account.seq)
        expect("5 held is the sum of holds", sum(self._held.values()), account.held_nanos)
        ensure("6 available", 0 <= account.held_nanos <= account.balance_nanos, "account: now")
        remaining = sum(lot.remaining_nanos for lot in self._lots.values())
        expect("7 lots sum up to the balance", remaining, account.balance_nanos)
        for lot in self._lots.values():
            self._check_lot(lot)
        self._keys.finish()
        expect("shortfalls add up", folded.shortfall_nanos, account.shortfall_nanos)
        for name in _SPENT:
            expect(f"21 {name}", getattr(folded, name), getattr(account, name))
        for name in ("status", *CHANGEABLE):
            told, stored = getattr(folded, name), getattr(account, name)
            ensure(f"22 {name} as the journal tells", told == stored, f"account: {stored!r}")
        ensure("19 hash chain", self._hash == account.head_hash, "account: head_hash")
        return self.violations.found

    def _check_lot(self, lot: Lot) -> None:
        row, ensure = f"lot {lot.id}", self.violations.ensure
        ensure("7 lot bounds", 0 <= lot.remaining_nanos <= lot.granted_nanos, row)
        ensure("7 lot bounds", 0 <= lot.held_nanos <= lot.remaining_nanos, row)
        folded = self._remaining.get(lot.id, 0)
        expect = self.violations.expect
        expect("10 lot is granted less used", folded, lot.remaining_nanos, row)
        expect("5 lot's held part", self._held[lot.id], lot.held_nanos, row)

    def _check_entries(self, transaction: Transaction, entries: list[Entry]) -> None:
        amount, require = transaction.amount_nanos, self.violations.require
        require("1 entries sum to 0", not sum(e.amount_nanos for e in entries), transaction)
        found = {entry.leg: entry.amount_nanos for entry in entries}
        wanted: dict[Any, int] = {}
        if amount and transaction.kind in COUNTER_LEG:
            wanted = {"wallet": amount, COUNTER_LEG[transaction.kind]: -amount}
        require("20 legs of the transaction", found == wanted, transaction)
        own = all(entry.user_id == transaction.user_id for entry in entries)
        require("20 legs of the account", own, transaction)

    def _check_charge(self, transaction: Transaction) -> None:
        if transaction.kind != "charge":
            return
        folded, require = self._folded, self.violations.require
        total = folded.shortfall_nanos + transaction.shortfall_nanos
        folded.shortfall_nanos = min(MAX_NANOS, total)
        if transaction.amount_nanos:
            count_spent(folded, -transaction.amount_nanos, transaction.booked_at_micros)
        self._keys.charge(transaction)
        requested = transaction.requested_nanos
        parts = (
            transaction.settled_before_nanos
            + transaction.shortfall_nanos
            - transaction.amount_nanos
        )
        require("18 parts of the charge", requested == parts, transaction)
        exact = transaction.exact_cost_picos
        if exact is not None:
            rounded = exact.isdecimal() and nanos_ceil(int(exact)) == requested
            require("18 charged is the cost rounded up", rounded, transaction)

    def _check_order(self, transaction: Transaction) -> None:
        """Use must follow the declared order; where nothing was held, it can be foretold."""
        known = all(use.lot_id in self._lots for use in transaction.lots)
        self.violations.require("7 lots exist", known, transaction)
        if transaction.kind != "charge" or not known:
            return
        free = [use for use in transaction.lots if not use.from_hold]
        order = [order_of(self._lots[use.lot_id]) for use in free]
        self.violations.require("8 lots in order", order == sorted(order), transaction)
        if transaction.hold_id is None and not transaction.held_after_nanos:
            foretold = self._greedy(-transaction.amount_nanos)
            actual = {use.lot_id: use.nanos for use in free}
            self.violations.require("8 first lots first", actual == foretold, transaction)

    def _greedy(self, nanos: int) -> dict[str, int]:
        live = [lot_id for lot_id, left in self._remaining.items() if left]
        uses: dict[str, int] = {}
        for lot_id in live if len(live) == 1 else sorted(live, key=self._order_of):
            part = min(self._remaining[lot_id], nanos)
            if part:
                uses[lot_id] = part
                nanos -= part
        return uses

    def _order_of(self, lot_id: str) -> tuple[int, int, int, str]:
        return order_of(self._lots[lot_id])

    def _use(self, transaction: Transaction, use: LotUse) -> None:
        lot, require = self._lots.get(use.lot_id), self.violations.require
        if lot is None:
            return
        left = self._remaining.get(lot.id, 0)
        if transaction.kind == "topup":
            self._grant(transaction, use, lot)
            return
        if transaction.kind == "refund":
            self._remaining[lot.id] = left + use.nanos
            within = self._remaining[lot.id] <= lot.granted_nanos
            require("10 refunded credit fits into its lot", within, transaction)
            return
        self._remaining[lot.id] = left - use.nanos
        require("7 lot never negative", left >= use.nanos, transaction)
        due = is_due(lot, transaction.booked_at_micros)
        if transaction.kind == "lot_expiry":
            require("9 only due lots expire", due, transaction)
        elif transaction.kind == "charge" and not use.from_hold:
            require("9 nothing from an expired lot", not due, transaction)

    def _grant(self, transaction: Transaction, use: LotUse, lot: Lot) -> None:
        """Compare a lot with the top-up that made it."""
        ensure, row = self.violations.ensure, f"lot {lot.id}: transaction {transaction.id}"
        ensure("7 a lot is granted once", lot.id not in self._remaining, row)
        ensure("7 granted", use.nanos == lot.granted_nanos == transaction.amount_nanos, row)
        as_told = transaction.details is None or transaction.details == terms_of(lot)
        ensure("7 terms", as_told, row)
        ensure("7 terms", lot.created_at_micros == transaction.booked_at_micros, row)
        self._remaining[lot.id] = use.nanos

    def _change(self, transaction: Transaction) -> None:
        """Fold what an account change says of itself."""
        try:
            changes = msgspec.json.decode(transaction.details or "{}", type=dict[str, Any])
        except msgspec.DecodeError:
            changes = {}
        known = bool(changes) and changes.keys() <= {"status", *CHANGEABLE}
        self.violations.require("22 an account change says what it changed", known, transaction)
        for name in changes.keys() & {"status", *CHANGEABLE}:
            setattr(self._folded, name, changes[name])
