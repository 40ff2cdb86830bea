"""What Gemini wants to see again with a tool call of its own, and how it travels.

Gemini 3 signs the first call of each step; the signature has to come back with it, and so have
the calls of Google's own tools that came before. It goes to clients in `extra_content`, as
https://ai.google.dev/gemini-api/docs/thought-signatures has it, and is kept for those that drop it.
"""

from typing import Any

import msgspec

# Google's own word for "don't check": the model knows less of its earlier thoughts then.
SENTINEL = "skip_thought_signature_validator"


class Remembered(msgspec.Struct, omit_defaults=True):
    """What belongs to one call.

    Attributes:
        signature: its thought signature.
        before: parts that came right before it: server-side tools' calls and results.
    """

    signature: str | None = None
    before: list[dict[str, Any]] | None = None

    def __bool__(self) -> bool:
        return self.signature is not None or bool(self.before)

    def encode(self) -> bytes:
        """Return the form in which it is kept."""
        return msgspec.json.encode(self)

    def extra_content(self) -> dict[str, Any]:
        """Return the form in which clients see it."""
        google: dict[str, Any] = {}
        if self.signature is not None:
            google["thought_signature"] = self.signature
        if self.before:
            google["preceding_parts"] = self.before
        return {"google": google}


_DECODER = msgspec.json.Decoder(Remembered)
NOTHING = Remembered()


def decode_remembered(data: bytes | None) -> Remembered:
    """Read what was kept; anything unreadable counts as nothing."""
    if data is None:
        return NOTHING
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return NOTHING


def from_extra_content(extra: Any) -> Remembered:
    """Read what a client sent back; what it is not is ignored, as all unknown fields are."""
    google = extra.get("google") if isinstance(extra, dict) else None
    if not isinstance(google, dict):
        return NOTHING
    signature = google.get("thought_signature")
    before = google.get("preceding_parts")
    parts = [part for part in before if _is_server_part(part)] if isinstance(before, list) else None
    return Remembered(signature if isinstance(signature, str) else None, parts or None)


def _is_server_part(part: Any) -> bool:
    return isinstance(part, dict) and bool({"toolCall", "toolResponse"} & set(part))
