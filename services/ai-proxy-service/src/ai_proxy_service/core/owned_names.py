"""Names of what belongs to one owner only, for stores that owners share."""

import hashlib

_NAME_BYTES = 24


def owned_name(owner: str, name: str) -> bytes:
    """Return a key that no other owner's name has, whatever the two are made of."""
    whose = owner.encode("utf-8", "surrogatepass")
    which = name.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(
        len(whose).to_bytes(8, "big") + whose + which, digest_size=_NAME_BYTES
    ).digest()
