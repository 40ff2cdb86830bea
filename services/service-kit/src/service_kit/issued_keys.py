"""How an issued key is written: the credits service makes it, the proxy reads it.

``sk-<prefix>-<random><checksum>``: the prefix is public and tells keys apart in lists and logs;
the random part is the secret; by the checksum a mistyped key, or what only looks like one, is
told without a look-up.
"""

import hashlib
import re
import string
import zlib
from dataclasses import dataclass, field

KEY_SIGN = "sk-"
PREFIX_LENGTH = 8
RANDOM_LENGTH = 34
CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_CHECKSUM_LENGTH = 6
_CHARACTER = "[0-9A-Za-z]"
_PREFIX = re.compile(rf"{_CHARACTER}{{{PREFIX_LENGTH}}}")
_KEY = re.compile(
    rf"(?P<signed>{KEY_SIGN}(?P<prefix>{_PREFIX.pattern})-{_CHARACTER}{{{RANDOM_LENGTH}}})"
    rf"(?P<checksum>{_CHARACTER}{{{_CHECKSUM_LENGTH}}})"
)


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """What a key is looked up and compared by."""

    prefix: str
    digest: bytes = field(repr=False)


def key_text(prefix: str, random: str) -> str:
    """Put a key together from its public prefix and its secret part."""
    signed = f"{KEY_SIGN}{prefix}-{random}"
    return signed + _checksum(signed)


def presented(text: str) -> PresentedKey | None:
    """Read a key; None if it can be none that was ever issued."""
    found = _KEY.fullmatch(text)
    if found is None or found["checksum"] != _checksum(found["signed"]):
        return None
    return PresentedKey(found["prefix"], hashlib.sha256(text.encode()).digest())


def is_prefix(text: str) -> bool:
    """Whether a text can be a key's public prefix."""
    return _PREFIX.fullmatch(text) is not None


def _checksum(signed: str) -> str:
    number = zlib.crc32(signed.encode())
    digits: list[str] = []
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(CHARACTERS))
        digits.append(CHARACTERS[digit])
    return "".join(reversed(digits))
