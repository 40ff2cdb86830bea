"""What is kept of an issued key.

Amounts are nano-USD (`_nanos`), moments microseconds since 1970 (`_micros`).
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

# chat: completions in every form; embeddings; models: list and read them; billing: read the
# balance and the statements of its own account; admin: all of these, and manage the keys of its
# own account. The proxy enforces them. The credits service itself takes configured keys only.
Scope = Literal["chat", "embeddings", "models", "billing", "admin"]
KeyStatus = Literal["active", "disabled", "expired", "revoked"]
EventKind = Literal["created", "changed", "rotated", "revoked", "refused"]
# Why a key is not accepted. One whose prefix is known and whose secret is wrong is unknown too.
Reason = Literal["unknown", "revoked", "rotated", "disabled", "expired"]
# Why the proxy refused a use of a key: it is not accepted, is not for this, or has used up a limit.
RefusedUse = Literal[
    "revoked",
    "rotated",
    "disabled",
    "expired",
    "missing_scope",
    "model_not_allowed",
    "rpm",
    "tpm",
    "max_concurrent",
    "spend_day",
    "spend_month",
    "spend_total",
]


class IssuedKey(msgspec.Struct, frozen=True):
    """A key with its limits; None means no limit.

    Attributes:
        account: who pays for what it is used for.
        allowed_models: names as the catalogue has them; `*` at the end stands for any rest.
        rpm: requests in a minute; `tpm` tokens in a minute; `max_concurrent` requests at once.
        limit_day_nanos: the most it may spend in a day (UTC); so `limit_month_nanos` in a month
            and `limit_total_nanos` ever.
        metadata: the operator's own JSON object, as text.
        created_by: which configured key made it.
        last_used_at_micros: to about a minute.
        revoked_at_micros: once set, the key is of no use for good.
    """

    id: str
    account: str
    name: str
    scopes: tuple[Scope, ...]
    allowed_models: tuple[str, ...] | None
    rpm: int | None
    tpm: int | None
    max_concurrent: int | None
    limit_day_nanos: int | None
    limit_month_nanos: int | None
    limit_total_nanos: int | None
    metadata: str | None
    disabled: bool
    expires_at_micros: int | None
    created_at_micros: int
    created_by: str
    updated_at_micros: int
    last_used_at_micros: int | None = None
    revoked_at_micros: int | None = None


@dataclass(frozen=True, slots=True)
class KeySecret:
    """One secret of a key: rotation makes a new one, and ends those before it.

    Attributes:
        number: 1 for the first secret of a key, the highest for the one in force.
        ends_at_micros: from then on it is not accepted; None for the one in force.
    """

    prefix: str
    key_id: str
    number: int
    digest: bytes = field(repr=False)
    last_four: str
    created_at_micros: int
    ends_at_micros: int | None = None


class KeyEvent(NamedTuple):
    """Something that happened to a key; numbered without gaps for each key.

    Attributes:
        details: a JSON object, as text; never a secret.
        principal: who did it: the configured key's name.
    """

    key_id: str
    seq: int
    kind: EventKind
    details: str
    principal: str
    request_id: str
    happened_at_micros: int


class KeyRecord(NamedTuple):
    """A key and its secrets, the one in force first."""

    key: IssuedKey
    secrets: tuple[KeySecret, ...]
