"""The bodies of requests, as msgspec types: what is checked is what the OpenAPI document says."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from credits_service.api.wire_types import (
    Amount,
    Description,
    Identifier,
    OptionalAmount,
    Progress,
    Reason,
    Reference,
    RequestId,
    Seconds,
    UserId,
)
from credits_service.ledger.state import AccountStatus, LotSource

MAX_OPERATIONS = 500
_ITEM = Meta(extra_json_schema={"$ref": "#/components/schemas/BatchItem"})


class BillRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Take credit, at once or as the capture of a hold.

    `key_id` names the issued key that a charge at once counts for, one of the account's: its spend
    limits count as the account's do. A capture counts for the key of its hold, whatever is named.
    """

    user_id: UserId
    amount: Amount
    description: Description = ""
    hold_id: Identifier | None = None
    final: bool = True
    usage: dict[str, Any] | None = None
    price: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    key_id: Identifier | None = None


class HoldRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Reserve credit for a request that is about to be served.

    `key_id` names the issued key that asks, one of the account's: its spend limits count as the
    account's do, for the hold, its raises and the charges on it.
    """

    user_id: UserId
    amount: Amount
    min_amount: OptionalAmount = msgspec.UNSET
    ttl_s: Seconds | None = None
    request_ref: Reference | None = None
    key_id: Identifier | None = None


class HoldPatch(msgspec.Struct, forbid_unknown_fields=True):
    """Raise a hold to an amount, make it live longer from now on, report what is used so far."""

    amount: OptionalAmount = msgspec.UNSET
    ttl_s: Seconds | None = None
    progress: Progress = msgspec.UNSET


class TopUpRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Add a lot of credit; makes the account if it is new."""

    user_id: UserId
    amount: Amount
    source: LotSource = "paid"
    priority: Annotated[int, Meta(ge=0, le=1000)] = 100
    expires_at: Annotated[str, Meta(extra_json_schema={"format": "date-time"})] | None = None
    reference: Reference | None = None
    description: Description = ""


class RefundRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Give back what a charge took, or a part of it; without an amount, all that is left."""

    reason: Reason
    amount: OptionalAmount = msgspec.UNSET


class LimitsPatch(msgspec.Struct, forbid_unknown_fields=True):
    """The most that charges may take in a day or a month (UTC), or ever; null: no limit."""

    day: OptionalAmount = msgspec.UNSET
    month: OptionalAmount = msgspec.UNSET
    total: OptionalAmount = msgspec.UNSET


class AccountPatch(msgspec.Struct, forbid_unknown_fields=True):
    """Change an account; what is not named stays.

    Closing is final. With credit left it needs `forfeit`, which books the rest as lost.
    """

    status: AccountStatus | None = None
    forfeit: bool = False
    limits: LimitsPatch | None = None
    low_balance: OptionalAmount = msgspec.UNSET


_BODY = Meta(
    extra_json_schema={
        "anyOf": [
            {"$ref": f"#/components/schemas/{body.__name__}"}
            for body in (BillRequest, HoldRequest, HoldPatch, TopUpRequest, RefundRequest)
        ]
    }
)


class BatchItem(msgspec.Struct, forbid_unknown_fields=True):
    """One operation: `body` is what its own endpoint takes, the id what that has in its path.

    `request_id` is kept with it instead of the batch's own, where callers share a batch.
    """

    op: Literal["bill", "hold", "amend_hold", "release_hold", "topup", "refund"]
    idempotency_key: str | None = None
    request_id: RequestId | None = None
    hold_id: str | None = None
    transaction_id: str | None = None
    body: Annotated[msgspec.Raw, _BODY] | msgspec.UnsetType = msgspec.UNSET


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Operations that have nothing to do with each other; each is checked by itself."""

    operations: Annotated[
        list[Annotated[msgspec.Raw, _ITEM]], Meta(min_length=1, max_length=MAX_OPERATIONS)
    ]
