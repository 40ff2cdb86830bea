"""How issued keys are written, and how their settings are read."""

from typing import Any

import msgspec

from credits_service.api.account_body import spent_body
from credits_service.api.amounts import optional_nanos
from credits_service.api.problems import invalid
from credits_service.api.requests import document, optional_moment
from credits_service.api.wire import SpendLimits
from credits_service.api.wire_keys import (
    KeyBody,
    KeyDetail,
    KeyEventBody,
    KeyPatch,
    KeyRequest,
    Verdict,
)
from credits_service.api.wire_requests import LimitsPatch
from credits_service.core.moments import moment_or_none, rfc3339
from credits_service.core.money import optional_usd, usd_from_nanos
from credits_service.keys.rules import (
    CACHE_SECONDS,
    accepted_until_micros,
    cache_seconds,
    status_of,
)
from credits_service.keys.state import IssuedKey, KeyEvent, KeyRecord, KeySecret, Reason
from credits_service.ledger.state import KeySpending

_PLAIN = ("name", "disabled", "rpm", "tpm", "max_concurrent")
_NULL = msgspec.Raw(b"null")
_encode = msgspec.json.Encoder().encode


def key_body(record: KeyRecord, now_micros: int) -> KeyBody:
    """Write a key as it is at a moment."""
    key, current = record.key, record.secrets[0]
    before = record.secrets[1] if len(record.secrets) > 1 else None
    return KeyBody(
        key_id=key.id,
        account=key.account,
        name=key.name,
        status=status_of(key, now_micros),
        prefix=current.prefix,
        last_four=current.last_four,
        scopes=list(key.scopes),
        allowed_models=None if key.allowed_models is None else list(key.allowed_models),
        rpm=key.rpm,
        tpm=key.tpm,
        max_concurrent=key.max_concurrent,
        limits=SpendLimits(
            day=optional_usd(key.limit_day_nanos),
            month=optional_usd(key.limit_month_nanos),
            total=optional_usd(key.limit_total_nanos),
        ),
        disabled=key.disabled,
        expires_at=moment_or_none(key.expires_at_micros),
        created_at=rfc3339(key.created_at_micros),
        created_by=key.created_by,
        updated_at=rfc3339(key.updated_at_micros),
        last_used_at=moment_or_none(key.last_used_at_micros),
        rotated_from=None if before is None else before.prefix,
        grace_until=None if before is None else moment_or_none(before.ends_at_micros),
        revoked_at=moment_or_none(key.revoked_at_micros),
        metadata=_document(key.metadata),
    )


def key_detail(record: KeyRecord, spending: KeySpending, now_micros: int) -> KeyDetail:
    """Write a key and what it has spent in the day and the month of a moment, and ever."""
    return KeyDetail(
        **msgspec.structs.asdict(key_body(record, now_micros)),
        spent=spent_body(spending, now_micros),
        held=usd_from_nanos(spending.held_nanos),
    )


def render_key(record: KeyRecord, now_micros: int) -> bytes:
    """Write a key as the text that is answered, and remembered."""
    return _encode(key_body(record, now_micros))


def event_body(event: KeyEvent) -> KeyEventBody:
    """Write what happened to a key."""
    return KeyEventBody(
        seq=event.seq,
        kind=event.kind,
        details=msgspec.Raw(event.details.encode()),
        principal=event.principal,
        request_id=event.request_id,
        happened_at=rfc3339(event.happened_at_micros),
    )


def accepted(key: IssuedKey, secret: KeySecret, now_micros: int) -> Verdict:
    """Write that a key is accepted, and what it may do."""
    until_micros = accepted_until_micros(key, secret)
    return Verdict(
        active=True,
        cache_seconds=cache_seconds(until_micros, now_micros),
        key_id=key.id,
        prefix=secret.prefix,
        account=key.account,
        name=key.name,
        scopes=list(key.scopes),
        allowed_models=None if key.allowed_models is None else list(key.allowed_models),
        rpm=key.rpm,
        tpm=key.tpm,
        max_concurrent=key.max_concurrent,
        expires_at=moment_or_none(until_micros),
    )


def not_accepted(reason: Reason, key: IssuedKey | None = None) -> Verdict:
    """Write that a key is not accepted, and which one it is if all of it was shown."""
    key_id = msgspec.UNSET if key is None or reason == "unknown" else key.id
    return Verdict(active=False, cache_seconds=CACHE_SECONDS, reason=reason, key_id=key_id)


def settings_from(body: KeyRequest | KeyPatch) -> dict[str, Any]:
    """Return the attributes of a key that a body names.

    Raises:
        ServiceError: 422, a field is wrong.
    """
    named = {
        name: value
        for name in body.__struct_fields__
        if not isinstance(value := getattr(body, name), msgspec.UnsetType)
    }
    settings: dict[str, Any] = {name: named[name] for name in _PLAIN if name in named}
    if "scopes" in named:
        settings["scopes"] = _distinct("scopes", named["scopes"])
    if "allowed_models" in named:
        models = named["allowed_models"]
        settings["allowed_models"] = None if models is None else _distinct("allowed_models", models)
    if "expires_at" in named:
        settings["expires_at_micros"] = optional_moment("expires_at", named["expires_at"])
    if "metadata" in named:
        settings["metadata"] = document("metadata", named["metadata"])
    return settings | _limits_from(body.limits)


def _limits_from(limits: LimitsPatch | None) -> dict[str, int | None]:
    if limits is None:
        return {}
    return {
        f"limit_{name}_nanos": optional_nanos(f"limits.{name}", value)
        for name in limits.__struct_fields__
        if not isinstance(value := getattr(limits, name), msgspec.UnsetType)
    }


def _distinct(field: str, values: list[str]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise invalid(field, "names something twice")
    return tuple(values)


def _document(text: str | None) -> msgspec.Raw:
    return _NULL if text is None else msgspec.Raw(text.encode())
