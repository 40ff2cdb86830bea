"""The most that Gemini can count for a file within a request, found without asking it.

Credit is held before a request is sent, so what is needed is a bound, not an estimate: it is
never below Gemini's count, of whatever model and resolution. Only the parts of a file that
tell its size are looked at; a bound costs the same for a kilobyte and for twenty megabytes.

https://ai.google.dev/gemini-api/docs/tokens, /media-resolution, /document-processing
"""

import base64
import math
import re
import struct
from dataclasses import dataclass

# An image for Gemini 3: the most that a resolution gives it, whatever its size.
IMAGE_TOKENS_MAX = 2240
# An image for Gemini 2: up to 384 pixels one tile, else cut into square tiles whose side is the
# shorter side / 1.5, but 256 to 768 pixels.
TOKENS_PER_TILE = 258
_SMALL_SIDE_PIXELS = 384
_TILE_SIDE_PIXELS_MIN = 256
_TILE_SIDE_PIXELS_MAX = 768
# An image whose size is not known: Gemini scales to 3072 pixels at most, and no shape within
# them has more tiles than 3072 x 257 with its 12 x 2.
_TILES_UNKNOWN = 24

AUDIO_TOKENS_PER_SECOND = 32
# A frame a second at the highest resolution (280), its time stamp and its second of sound.
VIDEO_TOKENS_PER_SECOND = 280 + 8 + AUDIO_TOKENS_PER_SECOND
# The slowest that is plausible. Sound: 6 kbit/s, the least that Opus is made for (RFC 6716);
# MP3 begins at 8. Film: 64 kbit/s, a slide show; a call with faces has twice that.
AUDIO_BYTES_PER_SECOND_MIN = 750
VIDEO_BYTES_PER_SECOND_MIN = 8000

PDF_PAGES_MAX = 1000
# At the highest resolution; text that is in the page as such is not charged besides.
PAGE_TOKENS_MAX = 1120
_PAGES_LOOKED_FOR_BYTES = 64 * 1024
_PDF_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Segments to pass over before a JPEG tells its size; pictures have dozens.
_JPEG_SEGMENTS_MAX = 2000
_JPEG_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_FILL = 0xFF
_BMP_OLD_HEADER_BYTES = 12
_VP8_SIDE_MASK = 0x3FFF
# MIME breaks base64 at 76 characters, PEM at 64 (RFC 4648); beyond this it has no lines.
_LINE_CHARACTERS_MAX = 1024
_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A file in base64, either alphabet, padded or not, of which parts are decoded."""

    text: str

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        padding = self.text.endswith("=") + self.text.endswith("==")
        return (len(self.text) - padding) * 3 // 4

    def read(self, offset: int, length: int) -> bytes:
        """Return some bytes, fewer at the end; none where there is no base64."""
        skipped = offset % 3
        start = offset // 3 * 4
        text = self.text[start : start + math.ceil((skipped + length) / 3) * 4]
        plain = text.translate(_URL_SAFE).rstrip("=")
        try:
            decoded = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        except ValueError:
            return b""
        return decoded[skipped : skipped + length]


def media_bound_tokens(mime_type: str, data_base64: str) -> int:
    """Return the most prompt tokens that a file can count for.

    Args:
        mime_type: as it will be sent.
        data_base64: the file. If it is damaged, the bound is one for a file of its size.
    """
    if "\n" in data_base64[:_LINE_CHARACTERS_MAX]:
        data_base64 = data_base64.replace("\n", "").replace("\r", "")
    file = _Encoded(data_base64)
    kind = mime_type.lower().partition("/")[0]
    if kind == "image":
        return _image_bound(file)
    if kind == "audio":
        seconds = math.ceil(file.size_bytes / _audio_bytes_per_second(file))
        return max(1, seconds) * AUDIO_TOKENS_PER_SECOND
    if kind == "video":
        seconds = math.ceil(file.size_bytes / VIDEO_BYTES_PER_SECOND_MIN)
        return max(1, seconds) * VIDEO_TOKENS_PER_SECOND
    return _document_bound(file, is_text=kind == "text")


def _document_bound(file: _Encoded, *, is_text: bool) -> int:
    """Return the bound of a PDF, or of anything that is read as text.

    A token of text has a byte at least. A page of a PDF has more bytes than tokens, unless it
    is all but empty; such pages are found by their objects, in a first part of the file.
    """
    head = file.read(0, _PAGES_LOOKED_FOR_BYTES)
    pages = max(1, len(_PDF_PAGE.findall(head)))
    tokens = max(file.size_bytes, pages * PAGE_TOKENS_MAX + file.size_bytes - len(head))
    return tokens if is_text else min(tokens, PDF_PAGES_MAX * PAGE_TOKENS_MAX)


def _audio_bytes_per_second(file: _Encoded) -> int:
    """Return the slowest plausible rate; a WAV file tells its own."""
    head = file.read(0, 36)
    if not head.startswith(b"RIFF") or head[8:16] != b"WAVEfmt " or len(head) < 36:  # noqa: PLR2004
        return AUDIO_BYTES_PER_SECOND_MIN
    samples, rate, block = struct.unpack_from("<IIH", head, 24)
    # Players go by either; where they differ, the file may be as long as the slower one says.
    return min((told for told in (rate, samples * block) if told), default=1)


def _image_bound(file: _Encoded) -> int:
    size = _image_size(file)
    if size is None or 0 in size:
        return max(IMAGE_TOKENS_MAX, _TILES_UNKNOWN * TOKENS_PER_TILE)
    width, height = size
    if max(size) <= _SMALL_SIDE_PIXELS:
        return IMAGE_TOKENS_MAX
    side = min(max(math.floor(min(size) / 1.5), _TILE_SIDE_PIXELS_MIN), _TILE_SIDE_PIXELS_MAX)
    tiles = math.ceil(width / side) * math.ceil(height / side)
    return max(IMAGE_TOKENS_MAX, tiles * TOKENS_PER_TILE)


def _image_size(file: _Encoded) -> tuple[int, int] | None:
    """Return width and height in pixels; None if the format is not known or damaged."""
    head = file.read(0, 32)
    try:
        if head.startswith(_PNG_MAGIC):
            width, height = struct.unpack_from(">II", head, 16)
            return width, height
        if head.startswith(b"\xff\xd8"):
            return _jpeg_size(file)
        if head.startswith(b"GIF8"):
            width, height = struct.unpack_from("<HH", head, 6)
            return width, height
        if head.startswith(b"BM"):
            return _bmp_size(head)
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return _webp_size(head)
    except struct.error:  # cut off within its header
        pass
    return None


def _jpeg_size(file: _Encoded) -> tuple[int, int] | None:
    offset = 2
    for _ in range(_JPEG_SEGMENTS_MAX):
        segment = file.read(offset, 9)
        marker, length = struct.unpack_from(">xBH", segment)
        if marker == _JPEG_FILL:
            offset += 1
            continue
        if marker in _JPEG_START_OF_FRAME:
            height, width = struct.unpack_from(">HH", segment, 5)
            return width, height
        offset += 2 + length
    return None


def _bmp_size(head: bytes) -> tuple[int, int]:
    (header_bytes,) = struct.unpack_from("<I", head, 14)
    old = header_bytes == _BMP_OLD_HEADER_BYTES
    width, height = struct.unpack_from("<HH" if old else "<ii", head, 18)
    return abs(width), abs(height)  # a height below zero: the top row comes first


def _webp_size(head: bytes) -> tuple[int, int] | None:
    """Read the first chunk of a WebP file (RFC 9649)."""
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return 1 + (bits & _VP8_SIDE_MASK), 1 + (bits >> 14 & _VP8_SIDE_MASK)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & _VP8_SIDE_MASK, height & _VP8_SIDE_MASK
    return None
