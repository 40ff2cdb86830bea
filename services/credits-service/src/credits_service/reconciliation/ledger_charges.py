"""The ledger's charges, as far as they can be set against the usage log."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from credits_service.core.ids import made_at_micros

_SETTLEMENT = "settle-"

# `proxy`: for a completion. `expired_hold`: what a hold had reported when it expired.
# `other`: some other backend's.
Origin = Literal["proxy", "expired_hold", "other"]


class LedgerCharge(msgspec.Struct, frozen=True):
    """One charge.

    Attributes:
        key: the billing key of the completion that it is for; None if it is for none.
        charged_nanos: what it took.
        settled_before_nanos: what the hold's expiry had taken already.
        usage: its counts, None if it names none.
    """

    transaction_id: str
    user_id: str
    origin: Origin
    key: str | None
    completion_id: str | None
    request_id: str | None
    booked_at_micros: int
    requested_nanos: int
    charged_nanos: int
    settled_before_nanos: int
    shortfall_nanos: int
    hold_id: str | None
    usage: dict[str, Any] | None
    exact_cost_picos: int | None

    @property
    def paid_nanos(self) -> int:
        """What the account paid for the completion altogether."""
        return self.charged_nanos + self.settled_before_nanos

    @property
    def began_at_micros(self) -> int:
        """When what is charged began: the hold tells, else the charge itself."""
        held_at = None if self.hold_id is None else made_at_micros(self.hold_id)
        return self.booked_at_micros if held_at is None else held_at


COLUMNS = (
    "id",
    "user_id",
    "amount_nanos",
    "booked_at_micros",
    "requested_nanos",
    "settled_before_nanos",
    "shortfall_nanos",
    "hold_id",
    "usage",
    "metadata",
    "exact_cost_picos",
    "idempotency_key",
    "details",
)


def charge_of(row: Mapping[str, Any]) -> LedgerCharge:
    """Read a charge from `COLUMNS` of its transaction."""
    metadata = _document(row["metadata"]) or {}
    completion_id = _text(metadata.get("completion_id"))
    origin: Origin = "proxy" if completion_id is not None else "other"
    if (_document(row["details"]) or {}).get("end") == "expired":
        origin = "expired_hold"
    exact = row["exact_cost_picos"]
    return LedgerCharge(
        transaction_id=row["id"],
        user_id=row["user_id"],
        origin=origin,
        key=_key(row["idempotency_key"], completion_id, metadata) if origin == "proxy" else None,
        completion_id=completion_id,
        request_id=_text(metadata.get("request_id")),
        booked_at_micros=row["booked_at_micros"],
        requested_nanos=row["requested_nanos"],
        charged_nanos=-row["amount_nanos"],
        settled_before_nanos=row["settled_before_nanos"],
        shortfall_nanos=row["shortfall_nanos"],
        hold_id=row["hold_id"],
        usage=_document(row["usage"]),
        exact_cost_picos=None if exact is None else int(exact),
    )


def _key(idempotency_key: str | None, completion_id: str | None, metadata: Any) -> str | None:
    """Return the billing key: the idempotency key says it, else the completion's id and attempt."""
    if idempotency_key is not None and idempotency_key.startswith(_SETTLEMENT):
        return idempotency_key.removeprefix(_SETTLEMENT)
    attempt = metadata.get("attempt", 1)
    return completion_id if attempt == 1 else f"{completion_id}-{attempt}"


def _document(text: str | None) -> dict[str, Any] | None:
    return None if text is None else msgspec.json.decode(text, type=dict[str, Any])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
