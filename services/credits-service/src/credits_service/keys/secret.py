"""How an issued key is written, and what is kept of it.

``sk-<prefix>-<random><checksum>``: the prefix is public and tells keys apart in lists and logs;
the random part is the secret; by the checksum a mistyped key, or what only looks like one, is
told without a look-up.

Only the SHA-256 digest is kept. A slow hash protects passwords, which can be guessed; 202
random bits can't be, whatever a guess costs.
"""

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field

PREFIX_LENGTH = 8
LAST_LENGTH = 4
_RANDOM_LENGTH = 34
_CHECKSUM_LENGTH = 6
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_CHARACTER = "[0-9A-Za-z]"
_PREFIX = re.compile(rf"{_CHARACTER}{{{PREFIX_LENGTH}}}")
_KEY = re.compile(
    rf"(?P<signed>sk-(?P<prefix>{_PREFIX.pattern})-{_CHARACTER}{{{_RANDOM_LENGTH}}})"
    rf"(?P<checksum>{_CHARACTER}{{{_CHECKSUM_LENGTH}}})"
)


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """What a key is looked up and compared by."""

    prefix: str
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewSecret(PresentedKey):
    """A key at the only time when it is known.

    Attributes:
        text: the key itself.
        last_four: its end, by which people recognise it.
    """

    text: str = field(repr=False)
    last_four: str


def make_secret() -> NewSecret:
    """Make a key that nobody can guess."""
    signed = f"sk-{_random(PREFIX_LENGTH)}-{_random(_RANDOM_LENGTH)}"
    text = signed + _checksum(signed)
    return NewSecret(_prefix_of(text), _digest(text), text, text[-LAST_LENGTH:])


def presented(text: str) -> PresentedKey | None:
    """Read a key; None if it can be none that was ever issued."""
    found = _KEY.fullmatch(text)
    if found is None or found["checksum"] != _checksum(found["signed"]):
        return None
    return PresentedKey(found["prefix"], _digest(text))


def is_prefix(text: str) -> bool:
    """Whether a text can be a key's public prefix."""
    return _PREFIX.fullmatch(text) is not None


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _prefix_of(text: str) -> str:
    return text.split("-")[1]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _checksum(signed: str) -> str:
    number = zlib.crc32(signed.encode())
    digits: list[str] = []
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
