"""Configured API keys: parsed once, kept as digests, compared in constant time."""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

KEY_MIN_LENGTH = 16
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PLACEHOLDER = re.compile(
    r"(?i)change.?(me|this|it)|your.?(api|key|secret|token)|placeholder|replace.?(me|this)|"
    r"example|insert.?(key|here)|<.*>|dummy|\.\.\.|^(sk-)?0?1234567"
)
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
        BadKeySettingError: a placeholder, a key that is too short, a name or key used twice.
    """
    keys: list[NamedKey] = []
    for position, item in enumerate(filter(None, map(str.strip, raw.split(","))), start=1):
        name, separator, key = item.partition(":")
        if not separator:
            name, key = "", item
        keys.append(_checked(name.strip(), key.strip(), f"{setting}, key number {position}"))
    if len({key.key for key in keys}) != len(keys):
        raise BadKeySettingError(f"{setting}: the same key is given twice")
    if len({key.name for key in keys}) != len(keys):
        raise BadKeySettingError(f"{setting}: each key needs a name of its own")
    return keys


def _checked(name: str, key: str, where: str) -> NamedKey:
    is_placeholder = _PLACEHOLDER.search(key) or (
        len(key) >= KEY_MIN_LENGTH and len(set(key)) < _DISTINCT_CHARACTERS_MIN
    )
    if is_placeholder:
        raise BadKeySettingError(
            f"{where} is a placeholder; make a real one, for example with `openssl rand -hex 24`"
        )
    if len(key) < KEY_MIN_LENGTH:
        raise BadKeySettingError(f"{where} is shorter than {KEY_MIN_LENGTH} characters")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise BadKeySettingError(f"{where} has characters that an HTTP header can't carry")
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
