"""Bounds on what files cost: never below the count, and found without reading the file."""

import base64
import math
import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy_service.core.media_tokens import (
    AUDIO_TOKENS_PER_SECOND,
    IMAGE_TOKENS_MAX,
    PAGE_TOKENS_MAX,
    PDF_PAGES_MAX,
    TOKENS_PER_TILE,
    media_bound_tokens,
)
from gemini_simulator.media import media_tokens as simulated_tokens

SIDES = st.integers(min_value=1, max_value=20_000)
UNKNOWN_IMAGE = 24 * TOKENS_PER_TILE


def encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
        + b"pixels"
    )


def jpeg(width: int, height: int, *, before: tuple[bytes, ...] = (b"JFIF",)) -> bytes:
    segments = b"".join(
        b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment for segment in before
    )
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + segments + frame + b"\xff\xda pixels"


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0"


def bmp(width: int, height: int) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<Iii", 40, width, -height) + bytes(20)


def old_bmp(width: int, height: int) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<IHH", 12, width, height) + bytes(20)


def webp(kind: bytes, body: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + kind + struct.pack("<I", len(body)) + body


def webp_lossy(width: int, height: int) -> bytes:
    return webp(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", width | 0x4000, height))


def webp_lossless(width: int, height: int) -> bytes:
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + b"\0")


def webp_extended(width: int, height: int) -> bytes:
    sides = [(side - 1).to_bytes(3, "little") for side in (width, height)]
    return webp(b"VP8X", b"\0\0\0\0" + b"".join(sides))


def wav(rate: int, channels: int, bits: int, content: bytes) -> bytes:
    block = channels * bits // 8
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * block, block, bits)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(content))
        + b"WAVEfmt \x10\0\0\0"
        + form
        + b"data"
        + struct.pack("<I", len(content))
        + content
    )


def pdf(pages: int, filler: bytes = b"") -> bytes:
    return b"%PDF-1.7\n" + b"".join(
        b"%d 0 obj<</Type/Page/Parent 1 0 R>>endobj\n" % number + filler for number in range(pages)
    )


IMAGES = [png, jpeg, gif, bmp, webp_lossy, webp_lossless, webp_extended]


@given(st.sampled_from([png, jpeg, gif]), SIDES, SIDES)
def test_the_bound_of_an_image_is_never_below_the_simulators_count(
    make: Callable[[int, int], bytes], width: int, height: int
) -> None:
    content = make(width, height)

    bound = media_bound_tokens("image/png", encode(content))

    assert bound >= simulated_tokens("image/png", content)
    assert bound >= IMAGE_TOKENS_MAX


@given(
    st.sampled_from(
        ["audio/wav", "audio/mp3", "video/mp4", "application/pdf", "text/plain", "image/webp"]
    ),
    st.binary(max_size=2000),
)
def test_the_bound_of_any_bytes_is_never_below_the_simulators_count(
    mime_type: str, content: bytes
) -> None:
    assert media_bound_tokens(mime_type, encode(content)) >= simulated_tokens(mime_type, content)


@given(
    st.sampled_from([8_000, 16_000, 44_100, 96_000]),
    st.sampled_from([1, 2, 6]),
    st.sampled_from([8, 16, 24]),
    st.integers(min_value=0, max_value=300_000),
)
def test_the_bound_of_a_recording_is_its_length_and_never_below_the_simulators_count(
    rate: int, channels: int, bits: int, size: int
) -> None:
    content = wav(rate, channels, bits, bytes(size))

    bound = media_bound_tokens("audio/wav", encode(content))

    assert bound >= simulated_tokens("audio/wav", content)
    seconds = math.ceil(len(content) / (rate * channels * bits // 8))
    assert bound <= seconds * AUDIO_TOKENS_PER_SECOND


@given(st.integers(min_value=0, max_value=1200), st.integers(min_value=0, max_value=100))
def test_the_bound_of_a_pdf_is_never_below_the_simulators_count(pages: int, filler: int) -> None:
    content = pdf(pages, b"x" * filler)

    bound = media_bound_tokens("application/pdf", encode(content))

    assert bound >= simulated_tokens("application/pdf", content)
    assert bound <= PDF_PAGES_MAX * PAGE_TOKENS_MAX


@pytest.mark.parametrize("make", IMAGES)
@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [
        (384, 384, IMAGE_TOKENS_MAX),
        (960, 540, IMAGE_TOKENS_MAX),
        (6000, 4000, 8 * 6 * 258),
        (4000, 6000, 8 * 6 * 258),
        (10_000, 300, 40 * 2 * 258),
        (1000, 10_000, 2 * 16 * 258),
    ],
)
def test_the_bound_of_an_image_follows_from_the_tiles_it_is_cut_into(
    make: Callable[[int, int], bytes], width: int, height: int, tokens: int
) -> None:
    content = make(width, height)

    assert media_bound_tokens("image/any", encode(content)) == tokens


def test_a_bitmap_of_the_oldest_kind_is_measured_too() -> None:
    assert media_bound_tokens("image/bmp", encode(old_bmp(6000, 4000))) == 8 * 6 * 258


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\0\x1cftypheic",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8",
        b"\xff\xd8\xff\xe1\xff\xff",
        jpeg(9999, 9999, before=(b"",) * 3000),
        png(0, 100),
        b"RIFF\0\0\0\0WEBPXXXX",
    ],
)
def test_an_image_that_tells_no_size_has_the_bound_of_any_image(content: bytes) -> None:
    assert media_bound_tokens("image/heic", encode(content)) == UNKNOWN_IMAGE


def test_a_jpeg_is_measured_behind_all_its_metadata() -> None:
    content = jpeg(6000, 4000, before=(b"Exif" + bytes(60_000),) * 40) + bytes(1000)
    padded = content.replace(b"\xff\xc2", b"\xff\xff\xff\xc2")

    assert media_bound_tokens("image/jpeg", encode(content)) == 8 * 6 * 258
    assert media_bound_tokens("image/jpeg", encode(padded)) == 8 * 6 * 258


@given(st.integers(min_value=0, max_value=5))
def test_base64_may_be_of_either_alphabet_unpadded_and_broken_into_lines(extra: int) -> None:
    content = jpeg(6000, 4000, before=(b"\xfb\xff\xfe" * 40,)) + bytes(extra)
    text = base64.urlsafe_b64encode(content).decode().rstrip("=")
    lines = "\r\n".join(text[start : start + 76] for start in range(0, len(text), 76))

    assert media_bound_tokens("image/jpeg", text) == 8 * 6 * 258
    assert media_bound_tokens("image/jpeg", lines) == 8 * 6 * 258


@pytest.mark.parametrize("mime_type", ["image/png", "audio/wav", "video/mp4", "application/pdf"])
def test_what_is_not_base64_has_a_bound_all_the_same(mime_type: str) -> None:
    assert media_bound_tokens(mime_type, "§$%&/()" * 100) > 0


def test_a_wav_file_with_two_rates_may_be_as_long_as_the_slower_says() -> None:
    content = bytearray(wav(8000, 1, 16, bytes(160_000)))
    content[28:32] = struct.pack("<I", 4_000_000_000)

    assert media_bound_tokens("audio/wav", encode(bytes(content))) >= 10 * AUDIO_TOKENS_PER_SECOND


def test_sound_and_film_are_bounded_by_the_slowest_plausible_rate() -> None:
    megabyte = encode(bytes(1_000_000))

    assert media_bound_tokens("audio/mp3", megabyte) == math.ceil(1_000_000 / 750) * 32
    assert media_bound_tokens("video/mp4", megabyte) == 125 * 320
    assert media_bound_tokens("VIDEO/MP4", "") == 320


def test_a_page_that_is_all_but_empty_costs_a_page() -> None:
    assert media_bound_tokens("application/pdf", encode(pdf(1))) == PAGE_TOKENS_MAX
    assert media_bound_tokens("application/pdf", encode(pdf(7))) == 7 * PAGE_TOKENS_MAX


def test_text_has_no_more_tokens_than_bytes_and_no_limit_of_pages() -> None:
    assert media_bound_tokens("text/plain", encode(bytes(3_000_000))) >= 3_000_000


@pytest.mark.parametrize(
    ("mime_type", "content"),
    [
        ("image/png", png(6000, 4000) + bytes(9_000_000)),
        ("image/jpeg", b"\xff\xd8" + b"\xff\xe1\0\x02" * 2_000_000),
        ("image/jpeg", b"\xff\xd8" + b"\xff" * 9_000_000),
        ("application/pdf", pdf(3) + bytes(9_000_000)),
        ("audio/wav", wav(8000, 1, 16, bytes(9_000_000))),
    ],
)
def test_a_large_file_is_not_decoded_to_be_measured(
    mime_type: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded_characters: list[int] = []
    real = base64.b64decode

    def count(text: str, *, validate: bool) -> bytes:
        decoded_characters.append(len(text))
        return real(text, validate=validate)

    monkeypatch.setattr(base64, "b64decode", count)

    media_bound_tokens(mime_type, encode(content))

    assert sum(decoded_characters) < 200_000
