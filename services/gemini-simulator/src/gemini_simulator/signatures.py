"""Thought signatures: opaque to clients, checked when they come back.

Google documents two texts that pass in place of a real signature; both are accepted raw and
in base64, as both are in use.
"""

import base64
import hashlib

from gemini_simulator.media import decode_base64

_PREFIX = b"\x12\x20sim"
_DIGEST_BYTES = 16
SENTINELS = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_PASSES = frozenset(SENTINELS) | {base64.b64encode(text.encode()).decode() for text in SENTINELS}


def sign(seed: str) -> str:
    """Return the signature that belongs to a seed."""
    payload = hashlib.sha256(seed.encode()).digest()
    proof = hashlib.sha256(_PREFIX + payload).digest()[:_DIGEST_BYTES]
    return base64.b64encode(_PREFIX + payload + proof).decode()


def is_genuine(signature: str) -> bool:
    """Tell whether the simulator made this signature, or it is one of the sentinels."""
    if signature in _PASSES:
        return True
    content = decode_base64(signature) or b""
    signed, proof = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    return signed.startswith(_PREFIX) and hashlib.sha256(signed).digest()[:_DIGEST_BYTES] == proof
