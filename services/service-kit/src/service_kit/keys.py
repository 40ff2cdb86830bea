"""Configured API keys: parsed once, kept as digests, compared in constant time.

A key is rotated without a pause by giving its name two keys for a while: both are the same
caller, with the same account and the same idempotency keys.
"""

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

KEY_MIN_LENGTH = 16
# The old one and the new one; more would be an oversight.
KEYS_OF_A_NAME_MAX = 2
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PLACEHOLDER = re.compile(
    r"(?i)change.?(me|this|it)|your.{0,20}(api|key|secret|token)|placeholder|replace.?(me|this)|"
    r"example|(insert|enter|put|paste).{0,20}(key|here|secret|token)|(api|secret).?key|goes.?here|"
    r"<.*>|dummy|\.\.\.|…|^(sk-|whsec_)?0?1234567"
)
_BEGINNING = re.compile(r"^(sk-|AIza|whsec_)")
# Random keys have far more; "sk-xxxxxxxxxxxxxxxx" has four.
_DISTINCT_CHARACTERS_MIN = 5


class BadKeySettingError(ValueError):
    """A key setting can't be accepted; the message says why and never shows the key."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling.

    Attributes:
        name: the configured key's name; also the account that pays if a request names none.
        scopes: what it may do, in the service's own words.
    """

    name: str
    scopes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A configured key before it is hashed."""

    name: str
    key: str


def parse_keys(raw: str, *, setting: str) -> list[NamedKey]:
    """Read a comma-separated list of keys, each optionally ``name:key``.

    Args:
        raw: the setting's value.
        setting: the setting's name, for messages.

    Raises:
        BadKeySettingError: a placeholder, a key that is too short, a key given twice, a name
            given to more than the two keys of a rotation.
    """
    keys: list[NamedKey] = []
    for position, item in enumerate(filter(None, map(str.strip, raw.split(","))), start=1):
        name, separator, key = item.partition(":")
        if not separator:
            name, key = "", item
        keys.append(_checked(name.strip(), key.strip(), f"{setting}, key number {position}"))
    if len({key.key for key in keys}) != len(keys):
        raise BadKeySettingError(f"{setting}: the same key is given twice")
    if max(Counter(key.name for key in keys).values(), default=0) > KEYS_OF_A_NAME_MAX:
        raise BadKeySettingError(
            f"{setting}: each caller needs a name of its own, with two keys at most: the old and "
            "the new one of a rotation"
        )
    return keys


def refuse_placeholder(secret: str, where: str, remedy: str) -> None:
    """Refuse what documentation and examples write where a secret belongs.

    Args:
        secret: the whole value.
        where: the setting's name, for the message, which does not show the value.
        remedy: what to do instead.

    Raises:
        BadKeySettingError: it is a placeholder.
    """
    random_part = _BEGINNING.sub("", secret)
    is_monotonous = (
        len(secret) >= KEY_MIN_LENGTH and len(set(random_part)) < _DISTINCT_CHARACTERS_MIN
    )
    if is_monotonous or _PLACEHOLDER.search(secret):
        raise BadKeySettingError(f"{where} is a placeholder; {remedy}")


def check_key(key: str, where: str) -> None:
    """Refuse a key that the other side would refuse: each side checks its own settings.

    Args:
        key: one key without a name.
        where: the setting's name, for the message.

    Raises:
        BadKeySettingError: a placeholder, too short, or not one key that a header can carry.
    """
    refuse_placeholder(key, where, "make a real one, for example with `openssl rand -hex 24`")
    if len(key) < KEY_MIN_LENGTH:
        raise BadKeySettingError(f"{where} is shorter than {KEY_MIN_LENGTH} characters")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise BadKeySettingError(f"{where} has characters that an HTTP header can't carry")


def _checked(name: str, key: str, where: str) -> NamedKey:
    check_key(key, where)
    if not name:
        # A name that tells keys apart in logs without telling anything of the key.
        name = f"key-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    if not _NAME.fullmatch(name):
        raise BadKeySettingError(f"{where}: a name has 1 to 64 of A-Z a-z 0-9 . _ -")
    return NamedKey(name, key)


class KeyRing:
    """The keys that are accepted, as digests."""

    def __init__(self, keys: Iterable[tuple[NamedKey, frozenset[str]]] = ()) -> None:
        self._entries = [
            (_digest(named.key), Principal(named.name, scopes)) for named, scopes in keys
        ]

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, presented: str) -> Principal | None:
        """Return whose key this is, in a time that does not depend on the answer."""
        digest = _digest(presented)
        found: Principal | None = None
        for accepted, principal in self._entries:
            if hmac.compare_digest(digest, accepted):
                found = principal
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
