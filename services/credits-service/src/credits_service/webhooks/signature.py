"""Signatures of Standard Webhooks (https://www.standardwebhooks.com), version 1: pure functions."""

import base64
import binascii
import hashlib
import hmac

SECRET_PREFIX = "whsec_"  # noqa: S105 - how every secret begins
SECRET_BYTES_MIN = 24
SECRET_BYTES_MAX = 64


class BadSecretError(ValueError):
    """A text is no secret; the message says why and does not repeat it."""


def parse_secret(text: str) -> bytes:
    """Return the key that a secret stands for.

    Raises:
        BadSecretError: it is not `whsec_` and the base64 of 24 to 64 bytes.
    """
    if not text.startswith(SECRET_PREFIX):
        raise BadSecretError(f"does not begin with {SECRET_PREFIX}")
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise BadSecretError(f"is not base64 after {SECRET_PREFIX}") from None
    if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise BadSecretError(
            f"stands for {len(key)} bytes, not for {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}"
        )
    return key


def sign(key: bytes, message_id: str, timestamp_seconds: int, body: bytes) -> str:
    """Return the value of the header `webhook-signature`."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp_seconds, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
