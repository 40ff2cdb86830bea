"""What a picture, a sound or a document costs in prompt tokens.

Rates as Google documents them: an image whose sides are at most 384 pixels 258 tokens, a larger
one 258 per tile of 768 by 768; audio 32 and video 263 a second; a PDF 258 a page. Lengths that
would take a decoder are estimated from the size.
"""

import base64
import binascii
import math
import re
import struct

TOKENS_PER_TILE = 258
_SMALL_SIDE_PIXELS = 384
_TILE_SIDE_PIXELS = 768
_AUDIO_TOKENS_PER_SECOND = 32
_VIDEO_TOKENS_PER_SECOND = 263
# Typical rates of compressed sound and film, for formats that are not parsed.
_AUDIO_BYTES_PER_SECOND = 16_000
_VIDEO_BYTES_PER_SECOND = 125_000
_WAV_BYTE_RATE_OFFSET = 28
_WAV_HEADER_BYTES = 44
_PDF_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def modality(mime_type: str) -> str:
    """Return the `Modality` under which Gemini reports a MIME type."""
    kind = mime_type.partition("/")[0]
    if kind in {"image", "audio", "video"}:
        return kind.upper()
    return "TEXT" if kind == "text" else "DOCUMENT"


def decode_base64(text: str) -> bytes | None:
    """Decode either base64 alphabet, padded or not; None when it is not base64."""
    plain = text.translate(str.maketrans("-_", "+/", "\r\n")).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        return None


def media_tokens(mime_type: str, content: bytes) -> int:
    """Return the prompt tokens of inline media."""
    kind = modality(mime_type)
    if kind == "IMAGE":
        return _image_tokens(content)
    if kind == "AUDIO":
        return max(1, math.ceil(_audio_seconds(content) * _AUDIO_TOKENS_PER_SECOND))
    if kind == "VIDEO":
        seconds = max(1, math.ceil(len(content) / _VIDEO_BYTES_PER_SECOND))
        return seconds * _VIDEO_TOKENS_PER_SECOND
    return TOKENS_PER_TILE * max(1, len(_PDF_PAGE.findall(content)))


def file_tokens(mime_type: str) -> int:
    """Return the prompt tokens of media given by URI: one unit, as its content is not fetched."""
    kind = modality(mime_type)
    rates = {"AUDIO": _AUDIO_TOKENS_PER_SECOND, "VIDEO": _VIDEO_TOKENS_PER_SECOND}
    return rates.get(kind, TOKENS_PER_TILE)


def _image_tokens(content: bytes) -> int:
    width, height = _image_size(content)
    if max(width, height) <= _SMALL_SIDE_PIXELS:
        return TOKENS_PER_TILE
    tiles = math.ceil(width / _TILE_SIDE_PIXELS) * math.ceil(height / _TILE_SIDE_PIXELS)
    return TOKENS_PER_TILE * tiles


def _image_size(content: bytes) -> tuple[int, int]:
    """Return width and height in pixels of a PNG, GIF or JPEG; (0, 0) for anything else."""
    try:
        if content.startswith(_PNG_MAGIC):
            width, height = struct.unpack_from(">II", content, 16)
            return width, height
        if content.startswith(b"GIF8"):
            width, height = struct.unpack_from("<HH", content, 6)
            return width, height
        if content.startswith(b"\xff\xd8"):
            return _jpeg_size(content)
    except struct.error:  # cut off within its header
        pass
    return 0, 0


def _jpeg_size(content: bytes) -> tuple[int, int]:
    offset = 2
    while True:
        marker, length = struct.unpack_from(">xBH", content, offset)
        if marker in _JPEG_START_OF_FRAME:
            height, width = struct.unpack_from(">HH", content, offset + 5)
            return width, height
        offset += 2 + length


def _audio_seconds(content: bytes) -> float:
    rate = _AUDIO_BYTES_PER_SECOND
    if content.startswith(b"RIFF") and len(content) > _WAV_HEADER_BYTES:
        rate = struct.unpack_from("<I", content, _WAV_BYTE_RATE_OFFSET)[0] or rate
    return len(content) / rate
