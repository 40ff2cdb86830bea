"""The operations that change a ledger, as values.

A field that is added later gets a default and is left out of the encoding while it has it
(`omit_defaults`), so that fingerprints of remembered requests stay what they were.
"""

from typing import Final

import msgspec

from credits_service.ledger.state import AccountStatus, LotSource


class Charge(msgspec.Struct, frozen=True, tag="charge", omit_defaults=True):
    """Take credit: at once, or as the capture of a hold.

    Attributes:
        final: whether this capture ends the hold and returns its rest.
        usage: JSON text, stored as it is; so are `price` and `metadata`.
        exact_cost_picos: the cost before it was rounded up, if the caller gave it.
        key_id: the issued key that a charge at once counts for; a capture counts for its hold's.
    """

    user_id: str
    amount_nanos: int
    description: str = ""
    hold_id: str | None = None
    final: bool = True
    usage: str | None = None
    price: str | None = None
    metadata: str | None = None
    exact_cost_picos: int | None = None
    key_id: str | None = None


class PlaceHold(msgspec.Struct, frozen=True, tag="hold", omit_defaults=True):
    """Reserve an amount, or whatever is available down to `min_amount_nanos`.

    Attributes:
        key_id: the issued key that the hold and the charges on it count for.
    """

    user_id: str
    amount_nanos: int
    ttl_micros: int
    min_amount_nanos: int | None = None
    request_ref: str | None = None
    key_id: str | None = None


class AmendHold(msgspec.Struct, frozen=True, tag="amend_hold", omit_defaults=True):
    """Raise a hold to at least an amount, make it live longer, report progress.

    Each is a floor: repeating it, or hearing of an older one late, changes nothing.
    """

    hold_id: str
    amount_nanos: int | None = None
    ttl_micros: int | None = None
    progress_nanos: int | None = None


class ReleaseHold(msgspec.Struct, frozen=True, tag="release_hold", omit_defaults=True):
    """Make sure that a hold reserves nothing any more."""

    hold_id: str


class TopUp(msgspec.Struct, frozen=True, tag="topup", omit_defaults=True):
    """Add a lot of credit; opens the account if it is new.

    Attributes:
        priority: lots with a lower number are used first.
        reference: a payment's id, accepted once in the whole ledger.
    """

    user_id: str
    amount_nanos: int
    source: LotSource = "paid"
    priority: int = 100
    expires_at_micros: int | None = None
    reference: str | None = None
    description: str = ""


class Refund(msgspec.Struct, frozen=True, tag="refund", omit_defaults=True):
    """Give back what a charge took, or a part of it.

    Attributes:
        amount_nanos: None means all that has not been given back yet.
    """

    transaction_id: str
    reason: str
    amount_nanos: int | None = None


class ChangeAccount(msgspec.Struct, frozen=True, tag="change_account", omit_defaults=True):
    """Freeze, open or close an account; set its limits. What is not named stays as it is.

    Attributes:
        forfeit: whether an account may be closed with credit left, which is then lost.
        settings: new values of the account's fields named in `CHANGEABLE`; None takes a limit
            away.
    """

    user_id: str
    status: AccountStatus | None = None
    forfeit: bool = False
    settings: dict[str, int | None] = msgspec.field(default_factory=dict)


CHANGEABLE: Final = (
    "low_balance_nanos",
    "limit_day_nanos",
    "limit_month_nanos",
    "limit_total_nanos",
)


class SettleDue(msgspec.Struct, frozen=True, tag="settle_due"):
    """Settle what is due on an account; every other operation does so as well, first."""

    user_id: str


Operation = (
    Charge | PlaceHold | AmendHold | ReleaseHold | TopUp | Refund | ChangeAccount | SettleDue
)
