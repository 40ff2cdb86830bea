"""What becomes of a key: whether it is accepted, how it is changed and rotated."""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from credits_service.core.moments import MICROS_PER_SECOND, moment_or_none
from credits_service.core.money import optional_usd
from credits_service.keys.secret import NewSecret
from credits_service.keys.state import IssuedKey, KeySecret, KeyStatus, Reason
from service_kit.issued_keys import PresentedKey

# How long the proxy may go by an answer: no longer than a revocation may take to bite.
CACHE_SECONDS = 10
_NO_DIGEST = bytes(32)
_NANOS = "_nanos"
_MICROS = "_micros"


def status_of(key: IssuedKey, now_micros: int) -> KeyStatus:
    """Return whether a key is of use, and if not, why: what is final comes first."""
    if key.revoked_at_micros is not None:
        return "revoked"
    if key.disabled:
        return "disabled"
    if key.expires_at_micros is not None and key.expires_at_micros <= now_micros:
        return "expired"
    return "active"


def refusal(
    key: IssuedKey | None, secret: KeySecret | None, shown: PresentedKey | None, now_micros: int
) -> Reason | None:
    """Return why a presented key is not accepted; None if it is.

    Digests are compared whether or not there is one, in constant time. Why a key is refused is
    told only to who has it.

    Args:
        key: what was found.
        secret: the same.
        shown: what was presented.
        now_micros: the moment.
    """
    digest = _NO_DIGEST if secret is None else secret.digest
    is_equal = hmac.compare_digest(digest, _NO_DIGEST[:0] if shown is None else shown.digest)
    if key is None or secret is None or not is_equal:
        return "unknown"
    status = status_of(key, now_micros)
    if status == "revoked":
        return "revoked"
    if secret.ends_at_micros is not None and secret.ends_at_micros <= now_micros:
        return "rotated"
    return None if status == "active" else status


def accepted_until_micros(key: IssuedKey, secret: KeySecret) -> int | None:
    """Return until when a secret is accepted if nobody changes anything; None: for ever."""
    ends = (key.expires_at_micros, secret.ends_at_micros)
    return min((micros for micros in ends if micros is not None), default=None)


def cache_seconds(until_micros: int | None, now_micros: int) -> int:
    """Return how long an answer may be gone by: never past the end that is known already."""
    if until_micros is None:
        return CACHE_SECONDS
    return max(0, min(CACHE_SECONDS, (until_micros - now_micros) // MICROS_PER_SECOND))


def changed(
    key: IssuedKey, settings: Mapping[str, Any], now_micros: int
) -> tuple[IssuedKey, dict[str, Any]]:
    """Return a key with new settings, and what is different now: from what, to what.

    Args:
        key: as it is.
        settings: new values of its attributes.
        now_micros: the moment.
    """
    different = {name: value for name, value in settings.items() if getattr(key, name) != value}
    if not different:
        return key, {}
    changes = {
        shown_name(name): {
            "from": shown_value(name, getattr(key, name)),
            "to": shown_value(name, value),
        }
        for name, value in different.items()
    }
    return msgspec.structs.replace(key, **different, updated_at_micros=now_micros), changes


def rotated(
    secrets: Sequence[KeySecret], new: NewSecret, *, grace_micros: int, now_micros: int
) -> tuple[KeySecret, list[KeySecret]]:
    """Return the new secret, and those before it that end sooner now.

    All of them end when the grace does, or earlier: a rotation without grace leaves none.

    Args:
        secrets: all of one key's, the one in force first.
        new: what comes into force.
        grace_micros: how long the others are accepted still.
        now_micros: the moment.
    """
    end = now_micros + grace_micros
    ended = [
        replace(secret, ends_at_micros=end)
        for secret in secrets
        if secret.ends_at_micros is None or secret.ends_at_micros > end
    ]
    current = secrets[0]
    return secret_of(current.key_id, current.number + 1, new, now_micros), ended


def secret_of(key_id: str, number: int, new: NewSecret, now_micros: int) -> KeySecret:
    """Return what is kept of a new secret."""
    return KeySecret(new.prefix, key_id, number, new.digest, new.last_four, now_micros)


def shown_name(field: str) -> str:
    """Call an attribute of a key as the API does."""
    return field.removesuffix(_NANOS).removesuffix(_MICROS)


def shown_value(field: str, value: Any) -> Any:
    """Write the value of a key's attribute as the API does."""
    if field.endswith(_NANOS):
        return optional_usd(value)
    if field.endswith(_MICROS):
        return moment_or_none(value)
    return msgspec.Raw(value.encode()) if field == "metadata" and value is not None else value
