"""The secret of an issued key when it is made (`service_kit.issued_keys` says how it is written).

Only the SHA-256 digest is kept. A slow hash protects passwords, which can be guessed; 202
random bits can't be, whatever a guess costs.
"""

import hashlib
import secrets
from dataclasses import dataclass, field

from service_kit.issued_keys import (
    CHARACTERS,
    PREFIX_LENGTH,
    RANDOM_LENGTH,
    PresentedKey,
    key_text,
)

LAST_LENGTH = 4


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
    prefix = _random(PREFIX_LENGTH)
    text = key_text(prefix, _random(RANDOM_LENGTH))
    digest = hashlib.sha256(text.encode()).digest()
    return NewSecret(prefix, digest, text, text[-LAST_LENGTH:])


def _random(length: int) -> str:
    return "".join(secrets.choice(CHARACTERS) for _ in range(length))
