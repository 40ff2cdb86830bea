"""The journal: append-only transactions with their entries, numbered and hash-chained."""

import hashlib
from typing import Literal, NamedTuple

import msgspec

from credits_service.core.money import MAX_NANOS
from credits_service.ledger.events import EventLog, EventRules
from credits_service.ledger.spending import count_spent
from credits_service.ledger.state import AccountState

TransactionKind = Literal["topup", "charge", "lot_expiry", "refund", "forfeiture", "account_change"]
# `wallet` is the user's account; the others are the platform's. Theirs carry no balance row
# that every charge would have to update: they are summed up when they are read.
Leg = Literal["wallet", "funding", "revenue", "breakage"]

# An account change moves no money and has no entries.
COUNTER_LEG: dict[TransactionKind, Leg] = {
    "topup": "funding",
    "charge": "revenue",
    "lot_expiry": "breakage",
    "refund": "revenue",
    "forfeiture": "breakage",
}


class LotUse(NamedTuple):
    """What a transaction did to one lot: took from it, or put into it.

    Attributes:
        nanos: amount, always positive.
        from_hold: whether it had been reserved by a hold.
    """

    lot_id: str
    nanos: int
    from_hold: bool


class Entry(msgspec.Struct, frozen=True):
    """One leg of a transaction; the entries of a transaction sum to 0."""

    transaction_id: str
    leg: Leg
    user_id: str
    amount_nanos: int


class Transaction(msgspec.Struct, frozen=True):
    """One business event on one account.

    Attributes:
        amount_nanos: effect on the balance; 0 for a charge that nothing was left to pay.
        requested_nanos: what a charge was asked for: taken, settled before and shortfall.
        settled_before_nanos: part of it that the hold's expiry had charged already.
        shortfall_nanos: part of it that the account could not pay.
        lots: what it did to which lots, in that order.
        exact_cost_picos: a charge's cost before it was rounded up (text: no bound).
        reverses_id: the charge that a refund reverses.
        idempotency_key: the key it was asked for with, kept after the key is forgotten.
        details: JSON text: a top-up's terms, what an account change changed, how a capture
            left its hold, which issued key a charge counts for. None for others, and in ledgers
            of older versions.
        hash: SHA-256 over the account's previous hash and this row with its entries.
    """

    id: str
    user_id: str
    seq: int
    kind: TransactionKind
    amount_nanos: int
    balance_after_nanos: int
    held_after_nanos: int
    booked_at_micros: int
    description: str
    lots: tuple[LotUse, ...]
    requested_nanos: int | None
    settled_before_nanos: int
    shortfall_nanos: int
    hold_id: str | None
    reverses_id: str | None
    usage: str | None
    price: str | None
    metadata: str | None
    exact_cost_picos: str | None
    principal: str
    request_id: str
    idempotency_key: str | None
    details: str | None
    hash: bytes


class Origin(NamedTuple):
    """Who asked for a transaction, by which request."""

    principal: str
    request_id: str
    idempotency_key: str | None


class Draft(msgspec.Struct, frozen=True):
    """A transaction before it has a place in the journal.

    Attributes:
        key_id: one of the account's issued keys that a charge counts for; `details` say so too.
    """

    kind: TransactionKind
    amount_nanos: int
    lots: tuple[LotUse, ...]
    description: str = ""
    requested_nanos: int | None = None
    settled_before_nanos: int = 0
    shortfall_nanos: int = 0
    hold_id: str | None = None
    reverses_id: str | None = None
    usage: str | None = None
    price: str | None = None
    metadata: str | None = None
    exact_cost_picos: str | None = None
    details: str | None = None
    key_id: str | None = None


_encode = msgspec.json.Encoder().encode


def chain_hash(previous: bytes, transaction: Transaction, entries: list[Entry]) -> bytes:
    """Return the hash of a transaction: of all it says, its entries, and what went before."""
    # Left out where there are none: so transactions were hashed before there were details.
    details = () if transaction.details is None else (transaction.details,)
    content = _encode(
        (
            transaction.id,
            transaction.user_id,
            transaction.seq,
            transaction.kind,
            transaction.amount_nanos,
            transaction.balance_after_nanos,
            transaction.held_after_nanos,
            transaction.booked_at_micros,
            transaction.description,
            transaction.lots,
            transaction.requested_nanos,
            transaction.settled_before_nanos,
            transaction.shortfall_nanos,
            transaction.hold_id,
            transaction.reverses_id,
            transaction.usage,
            transaction.price,
            transaction.metadata,
            transaction.exact_cost_picos,
            transaction.principal,
            transaction.request_id,
            transaction.idempotency_key,
            [(entry.leg, entry.user_id, entry.amount_nanos) for entry in entries],
            *details,
        )
    )
    return hashlib.sha256(previous + content).digest()


class Journal:
    """Collects the rows that a batch appends.

    Args:
        rules: which events are written down besides; None for none.
    """

    def __init__(self, rules: EventRules | None = None) -> None:
        self.transactions: list[Transaction] = []
        self.entries: list[Entry] = []
        self.event_log = EventLog(rules)

    def book(
        self,
        state: AccountState,
        draft: Draft,
        *,
        transaction_id: str,
        origin: Origin,
        now_micros: int,
    ) -> Transaction:
        """Append a transaction and move the account's balance, number and hash with it.

        The caller has changed the lots and the held amount already.
        """
        account = state.account
        amount = draft.amount_nanos
        account.balance_nanos += amount
        account.seq += 1
        assert 0 <= account.held_nanos <= account.balance_nanos
        entries: list[Entry] = []
        if amount:
            counter = COUNTER_LEG[draft.kind]
            entries.append(Entry(transaction_id, "wallet", account.user_id, amount))
            entries.append(Entry(transaction_id, counter, account.user_id, -amount))
        transaction = Transaction(
            id=transaction_id,
            user_id=account.user_id,
            seq=account.seq,
            kind=draft.kind,
            amount_nanos=amount,
            balance_after_nanos=account.balance_nanos,
            held_after_nanos=account.held_nanos,
            booked_at_micros=now_micros,
            description=draft.description,
            lots=draft.lots,
            requested_nanos=draft.requested_nanos,
            settled_before_nanos=draft.settled_before_nanos,
            shortfall_nanos=draft.shortfall_nanos,
            hold_id=draft.hold_id,
            reverses_id=draft.reverses_id,
            usage=draft.usage,
            price=draft.price,
            metadata=draft.metadata,
            exact_cost_picos=draft.exact_cost_picos,
            principal=origin.principal,
            request_id=origin.request_id,
            idempotency_key=origin.idempotency_key,
            details=draft.details,
            hash=b"",
        )
        if draft.kind == "charge" and amount:
            count_spent(account, -amount, now_micros)
            if draft.key_id is not None:
                count_spent(state.keys[draft.key_id], -amount, now_micros)
        account.updated_at_micros = now_micros
        account.shortfall_nanos = min(MAX_NANOS, account.shortfall_nanos + draft.shortfall_nanos)
        account.head_hash = chain_hash(account.head_hash, transaction, entries)
        # It is not known to anybody yet; a second one would be a copy of all its values.
        msgspec.structs.force_setattr(transaction, "hash", account.head_hash)
        self.transactions.append(transaction)
        self.entries += entries
        self.event_log.balance_changed(
            account,
            account.balance_nanos - amount,
            transaction_id=transaction_id,
            now_micros=now_micros,
        )
        return transaction
