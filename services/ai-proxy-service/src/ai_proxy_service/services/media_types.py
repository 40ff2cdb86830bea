"""What a file is, by its first bytes: what a server says of it is often wrong, or a lie.

Signatures as the formats' own specifications give them; names as Gemini lists them.
https://ai.google.dev/gemini-api/docs/image-understanding, /audio, /video-understanding
"""

import re
from typing import Final

TEXT: Final = "text/plain"
HEAD_BYTES = 1024

_PREFIXES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mp3"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
)
# RIFF and IFF files: a chunk of any size that says what is in it.
_CHUNKED: Final = {
    (b"RIFF", b"WEBP"): "image/webp",
    (b"RIFF", b"WAVE"): "audio/wav",
    (b"RIFF", b"AVI "): "video/avi",
    (b"FORM", b"AIFF"): "audio/aiff",
    (b"FORM", b"AIFC"): "audio/aiff",
}
# Brands of the ISO base media format (mp4ra.org); other brands are not for Gemini.
_BRANDS: Final = (
    (re.compile(rb"avi[fs]"), "image/avif"),
    (re.compile(rb"hei[cmsx]|hev[cmsx]"), "image/heic"),
    (re.compile(rb"mif1|msf1"), "image/heif"),
    (re.compile(rb"qt  "), "video/mov"),
    (re.compile(rb"M4[AB] "), "audio/mp4"),
    (re.compile(rb"3g[2ep]."), "video/3gpp"),
    (re.compile(rb"iso[m2-9]|mp4[12]|avc1|M4V.|MSNV|dash|mmp4|f4v "), "video/mp4"),
)
# QuickTime files from before brands begin with one of these boxes.
_QUICKTIME_BOXES: Final = frozenset({b"moov", b"mdat", b"wide"})
_BITMAP_HEADER_BYTES: Final = frozenset({12, 40, 52, 56, 64, 108, 124})
_EBML: Final = b"\x1a\x45\xdf\xa3"
_WEBM_WITHIN_BYTES: Final = 64


def sniff_mime_type(content: bytes | bytearray, declared: str) -> str | None:
    """Return the MIME type of a file; None if Gemini has no use for it.

    Args:
        content: the whole file.
        declared: what its server said. It is believed in one case only: a text has no first
            bytes to know it by.
    """
    found = _by_head(bytes(content[:HEAD_BYTES]))
    if found is not None or not declared.lower().startswith("text/"):
        return found
    return TEXT if _is_text(content) else None


def _by_head(head: bytes) -> str | None:
    for prefix, mime_type in _PREFIXES:
        if head.startswith(prefix):
            return mime_type
    if head.startswith(_EBML):
        return "video/webm" if b"webm" in head[:_WEBM_WITHIN_BYTES] else None
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BITMAP_HEADER_BYTES:
        return "image/bmp"
    return _CHUNKED.get((head[:4], head[8:12])) or _by_box(head) or _by_frame(head)


def _by_box(head: bytes) -> str | None:
    if head[4:8] in _QUICKTIME_BOXES:
        return "video/mov"
    if head[4:8] != b"ftyp":
        return None
    box_bytes = int.from_bytes(head[:4], "big")
    brand = head[8:12]
    # A general image brand says nothing of the coding; the brands it is compatible with do.
    listed = [head[start : start + 4] for start in range(16, min(box_bytes, len(head)), 4)]
    brands = [*listed, brand] if brand in {b"mif1", b"msf1"} else [brand]
    for pattern, mime_type in _BRANDS:
        if any(pattern.fullmatch(each) for each in brands):
            return mime_type
    return None


def _by_frame(head: bytes) -> str | None:
    """Know a bare stream of MPEG audio by its first frame header (ISO 11172-3, 13818-7)."""
    if len(head) < 4 or head[0] != 0xFF:  # noqa: PLR2004 - a header's size and sync byte
        return None
    second, third = head[1], head[2]
    if second & 0xF6 == 0xF0:  # noqa: PLR2004 - sync and "layer 0", which only AAC has
        return "audio/aac"
    has_rates = third & 0xF0 != 0xF0 and third & 0x0C != 0x0C  # noqa: PLR2004 - all ones: invalid
    return "audio/mp3" if second & 0xE6 == 0xE2 and has_rates else None  # noqa: PLR2004 - layer III


def _is_text(content: bytes | bytearray) -> bool:
    if not content or b"\0" in content:
        return False
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
