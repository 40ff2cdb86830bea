"""The bodies about issued keys (see `wire`)."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from credits_service.api.wire import SpendLimits, SpentBody
from credits_service.api.wire_requests import LimitsPatch
from credits_service.api.wire_types import (
    Document,
    Identifier,
    Moment,
    Usd,
    UserId,
)
from credits_service.keys.state import EventKind, KeyStatus, Reason, RefusedUse, Scope

_GRACE_SECONDS_MAX = 30 * 86_400
_MODEL = r"^[A-Za-z0-9][A-Za-z0-9._:/-]*\*?$"
_Rate = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Scopes = Annotated[list[Scope], Meta(min_length=1, max_length=5)]
_Models = Annotated[
    list[Annotated[str, Meta(max_length=128, pattern=_MODEL)]],
    Meta(
        min_length=1,
        max_length=100,
        description="Names as the catalogue has them; * at the end stands for any rest.",
    ),
]
_Expiry = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class KeyRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Make a key for an account. What is null or missing has no limit.

    `limits` bind the holds and charges that name the key, beside those of its account.
    """

    account: UserId
    name: Identifier
    scopes: _Scopes = msgspec.field(default_factory=lambda: ["chat", "embeddings", "models"])
    allowed_models: _Models | None = None
    rpm: _Rate | None = None
    tpm: _Rate | None = None
    max_concurrent: _Rate | None = None
    limits: LimitsPatch | None = None
    expires_at: _Expiry | None = None
    metadata: dict[str, Any] | None = None


class KeyPatch(msgspec.Struct, forbid_unknown_fields=True):
    """Change a key; what is not named stays, null takes a limit away."""

    name: Identifier | msgspec.UnsetType = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    scopes: _Scopes | msgspec.UnsetType = msgspec.UNSET
    allowed_models: _Models | msgspec.UnsetType | None = msgspec.UNSET
    rpm: _Rate | msgspec.UnsetType | None = msgspec.UNSET
    tpm: _Rate | msgspec.UnsetType | None = msgspec.UNSET
    max_concurrent: _Rate | msgspec.UnsetType | None = msgspec.UNSET
    limits: LimitsPatch | None = None
    expires_at: _Expiry | msgspec.UnsetType | None = msgspec.UNSET
    metadata: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET


class RotateRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Make a new secret; those before it are accepted until the grace ends. 0: not at all."""

    grace_seconds: Annotated[int, Meta(ge=0, le=_GRACE_SECONDS_MAX)] = 0


class VerifyRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A key that somebody presented."""

    key: Annotated[str, Meta(max_length=1024)]


class RefusedUses(msgspec.Struct, forbid_unknown_fields=True):
    """Uses of a key that were refused for one reason; `request_id` is one of theirs."""

    key_id: Annotated[str, Meta(pattern=r"^[0-9a-f-]{36}$")]
    reason: RefusedUse
    count: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    request_id: Identifier | None = None


class RefusalReport(msgspec.Struct, forbid_unknown_fields=True):
    """Refused uses that the ledger was not asked about: they are put on the keys' records."""

    refusals: Annotated[list[RefusedUses], Meta(min_length=1, max_length=500)]


class RefusalsNoted(msgspec.Struct):
    """How many reports were taken; which of them are kept, and when, see `KeyEventBody`."""

    noted: int


class KeyBody(msgspec.Struct):
    """An issued key, without its secret.

    `prefix` and `last_four` are of the secret in force. After a rotation `rotated_from` is the
    prefix of the one before it, which is accepted until `grace_until`.
    """

    key_id: str
    account: str
    name: str
    status: KeyStatus
    prefix: str
    last_four: str
    scopes: list[Scope]
    allowed_models: list[str] | None
    rpm: int | None
    tpm: int | None
    max_concurrent: int | None
    limits: SpendLimits
    disabled: bool
    expires_at: Moment | None
    created_at: Moment
    created_by: str
    updated_at: Moment
    last_used_at: Moment | None
    rotated_from: str | None
    grace_until: Moment | None
    revoked_at: Moment | None
    metadata: Document


class KeyDetail(KeyBody):
    """A key, what charges took for it, and what its holds reserve, as last booked."""

    spent: SpentBody
    held: Usd


class IssuedKeyBody(KeyBody):
    """A key, with its secret.

    This is the only answer with `key`: it is not kept. Under the same idempotency key the
    answer is 200, without it; whoever lost it rotates the key.
    """

    key: str


class KeyPage(msgspec.Struct):
    """A page of keys; `next_cursor` is null on the last one."""

    keys: list[KeyBody]
    next_cursor: str | None


class KeyEventBody(msgspec.Struct):
    """Something that happened to a key, who did it and when.

    A refusal stands for the `details.count` refusals for its `details.reason` since the one before
    it. Of each reason ten are kept in an hour; what comes after them counts for the next.
    """

    seq: int
    kind: EventKind
    details: Document
    principal: str
    request_id: str
    happened_at: Moment


class KeyEventPage(msgspec.Struct):
    """A page of events; `next_cursor` is null on the last one."""

    events: list[KeyEventBody]
    next_cursor: str | None


class Verdict(msgspec.Struct):
    """Whether a key is accepted, for `cache_seconds`; if not, why, and nothing else but its id.

    The id of a key that is `unknown` is not told: somebody knows its prefix at most.

    `expires_at` is the moment from which this secret is not accepted: the key's own expiry or
    the end of the grace after a rotation. Whether the account can pay only a hold tells.
    """

    active: bool
    cache_seconds: int
    reason: Reason | msgspec.UnsetType = msgspec.UNSET
    key_id: str | msgspec.UnsetType = msgspec.UNSET
    prefix: str | msgspec.UnsetType = msgspec.UNSET
    account: str | msgspec.UnsetType = msgspec.UNSET
    name: str | msgspec.UnsetType = msgspec.UNSET
    scopes: list[Scope] | msgspec.UnsetType = msgspec.UNSET
    allowed_models: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    rpm: int | msgspec.UnsetType | None = msgspec.UNSET
    tpm: int | msgspec.UnsetType | None = msgspec.UNSET
    max_concurrent: int | msgspec.UnsetType | None = msgspec.UNSET
    expires_at: Moment | msgspec.UnsetType | None = msgspec.UNSET
