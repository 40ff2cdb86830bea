"""Issued keys in tests: texts that have the right form, and what the credits service says."""

import secrets
import uuid
from typing import Any

from ai_proxy_service.core.issued_keys import IssuedKey
from service_kit.issued_keys import CHARACTERS, PREFIX_LENGTH, RANDOM_LENGTH, key_text


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def some_key() -> str:
    """Make a key that nobody has issued."""
    characters = [secrets.choice(CHARACTERS) for _ in range(PREFIX_LENGTH + RANDOM_LENGTH)]
    text = "".join(characters)
    return key_text(text[:PREFIX_LENGTH], text[PREFIX_LENGTH:])


def accepted(**changes: Any) -> dict[str, Any]:
    """Return the verdict on a key that is accepted."""
    return {
        "active": True,
        "cache_seconds": 10,
        "key_id": "0198c0de-0000-7000-8000-000000000000",
        "prefix": "8fK2mQ0x",
        "account": "ann",
        "name": "Ann's laptop",
        "scopes": ["chat", "models"],
        "allowed_models": None,
        "rpm": None,
        "tpm": None,
        "max_concurrent": None,
        "expires_at": None,
        **changes,
    }


def refused(**changes: Any) -> dict[str, Any]:
    """Return the verdict on a key that is not accepted."""
    return {"active": False, "cache_seconds": 10, "reason": "unknown", **changes}


def limited_key(**limits: Any) -> IssuedKey:
    """Make an accepted key that no other test counts for."""
    return IssuedKey(name=str(uuid.uuid4()), account="ann", label="k", **limits)
