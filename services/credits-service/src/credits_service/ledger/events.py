"""What others are told of: events, written down in the transaction that they report."""

from typing import Any, Literal, NamedTuple

import msgspec

from credits_service.core.money import usd_from_nanos
from credits_service.ledger.state import Account, Hold

EventKind = Literal["balance.low", "hold.expired"]

_encode = msgspec.json.Encoder().encode


class EventRules(NamedTuple):
    """When there is something to tell.

    Attributes:
        default_low_balance_nanos: below this a balance is low, on accounts that have no
            threshold of their own; None: on those alone.
    """

    default_low_balance_nanos: int | None


class Event(NamedTuple):
    """Something that happened; the payload is JSON text."""

    id: str
    kind: EventKind
    user_id: str
    payload: str
    created_at_micros: int


class EventLog:
    """Collects the events of a batch.

    Args:
        rules: None if nobody wants to be told.

    Attributes:
        events: what there is to tell.
        holds_expired: how many holds have expired, whoever wants to be told.
    """

    def __init__(self, rules: EventRules | None) -> None:
        self._rules = rules
        self.events: list[Event] = []
        self.holds_expired = 0

    def balance_changed(
        self, account: Account, before_nanos: int, *, transaction_id: str, now_micros: int
    ) -> None:
        """Tell of a balance that falls below its threshold, once for each fall."""
        if self._rules is None:
            return
        threshold = account.low_balance_nanos
        if threshold is None:
            threshold = self._rules.default_low_balance_nanos
        if threshold is None or not before_nanos >= threshold > account.balance_nanos:
            return
        payload = {
            "user_id": account.user_id,
            "balance": usd_from_nanos(account.balance_nanos),
            "available": usd_from_nanos(account.available_nanos),
            "threshold": usd_from_nanos(threshold),
            "transaction_id": transaction_id,
            "seq": account.seq,
        }
        # One transaction makes a balance fall once, so that its id serves the event as well.
        self._add(transaction_id, "balance.low", account.user_id, payload, now_micros)

    def hold_expired(self, hold: Hold, charged_nanos: int, now_micros: int) -> None:
        """Tell of a hold that nobody settled in time."""
        self.holds_expired += 1
        if self._rules is None:
            return
        payload = {
            "user_id": hold.user_id,
            "hold_id": hold.id,
            "amount": usd_from_nanos(hold.amount_nanos),
            "captured": usd_from_nanos(hold.captured_nanos),
            "charged_at_expiry": usd_from_nanos(charged_nanos),
            "request_ref": hold.request_ref,
            "key_id": hold.key_id,
        }
        # A hold expires once.
        self._add(hold.id, "hold.expired", hold.user_id, payload, now_micros)

    def _add(
        self, event_id: str, kind: EventKind, user_id: str, payload: dict[str, Any], now: int
    ) -> None:
        self.events.append(Event(event_id, kind, user_id, _encode(payload).decode(), now))
