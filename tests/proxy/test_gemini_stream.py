"""Gemini's streams in all their forms, with errors wherever they may stand."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_proxy_service.services.gemini_stream import StreamDecoder

ERROR = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
BARE_ERROR = json.dumps(ERROR, indent=2).encode()


def text_of(text: str) -> bytes:
    chunk = {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}}]}
    return json.dumps(chunk, ensure_ascii=False).encode()


def event(data: bytes, end: bytes = b"\r\n\r\n") -> bytes:
    return b"data: " + data + end


ONE, TWO = text_of("one ü"), text_of('tw"o]}')
EVENTS = event(ONE) + event(TWO)
ARRAY = b"[" + ONE + b"\n,\r\n" + TWO + b"\n]"


def decode(raw: bytes, cuts: list[int] | None = None) -> tuple[list[str], tuple[int, str] | None]:
    """Return the texts of a stream, and the status and reason of the error in it."""
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts or ()), len(raw)]
    decoder = StreamDecoder()
    chunks = [
        chunk for start, end in itertools.pairwise(edges) for chunk in decoder.feed(raw[start:end])
    ]
    chunks += decoder.finish()
    texts = [
        part.text or ""
        for chunk in chunks
        for candidate in chunk.candidates or ()
        for part in (candidate.content and candidate.content.parts) or ()
    ]
    failure = decoder.failure
    return texts, None if failure is None else (failure.status, failure.reason)


BOTH = ["one ü", 'tw"o]}']
OVERLOADED = (503, "UNAVAILABLE")
FORMS = [
    (EVENTS, BOTH, None),
    (EVENTS.replace(b"\r", b""), BOTH, None),
    (b": ping\n\n" + EVENTS, BOTH, None),
    (b"\r\n" + EVENTS, BOTH, None),
    (event(ONE) + b"data: " + TWO, BOTH, None),
    (event(ONE, b"\r\n") + event(TWO, b"\n"), BOTH, None),
    (ARRAY, BOTH, None),
    (b" \r\n" + ARRAY, BOTH, None),
    (b"[]", [], None),
    (b"", [], None),
    (b"\r\n\r\n", [], None),
    # A whole answer, where a stream was asked for.
    (ONE, ["one ü"], None),
    (json.dumps(json.loads(ONE), indent=2).encode(), ["one ü"], None),
    # Errors: bare between the events, as an event, in an array, in a list, alone.
    (event(ONE) + BARE_ERROR, ["one ü"], OVERLOADED),
    (event(ONE) + BARE_ERROR + b"\r\n", ["one ü"], OVERLOADED),
    (event(ONE, b"\r\n") + BARE_ERROR, ["one ü"], OVERLOADED),
    (event(ONE) + b"\n\n" + BARE_ERROR + b"\n\n", ["one ü"], OVERLOADED),
    (event(ONE) + json.dumps(ERROR).encode(), ["one ü"], OVERLOADED),
    (event(ONE) + event(json.dumps(ERROR).encode()), ["one ü"], OVERLOADED),
    (event(ONE) + event(json.dumps(ERROR).encode()) + event(TWO), ["one ü"], OVERLOADED),
    (event(ONE) + b"[" + json.dumps(ERROR).encode() + b"]", ["one ü"], OVERLOADED),
    (b"[" + ONE + b",\n" + BARE_ERROR + b"]", ["one ü"], OVERLOADED),
    (b"[" + BARE_ERROR + b"]", [], OVERLOADED),
    (BARE_ERROR, [], OVERLOADED),
]


@pytest.mark.parametrize(("raw", "texts", "failure"), FORMS)
@settings(max_examples=25)
@given(cuts=st.lists(st.integers(min_value=0, max_value=1_000), max_size=20))
def test_each_form_is_read_however_its_bytes_are_cut(
    raw: bytes, texts: list[str], failure: tuple[int, str] | None, cuts: list[int]
) -> None:
    assert decode(raw, cuts) == (texts, failure)


@pytest.mark.parametrize(
    ("raw", "texts"),
    [
        (event(b"<html>"), []),
        (event(ONE) + event(b'{"candidates": 5}'), ["one ü"]),
        (event(ONE) + event(b"[1, 2"), ["one ü"]),
        (event(ONE) + event(b'{"candidates": [{"content": "\xff"}]}'), ["one ü"]),
        (event(b"[" * 100_000), []),
        (b"<html>\n<body>Bad gateway</body>\n", []),
        (event(ONE) + b"upstream connect error", ["one ü"]),
        (b"[" + ONE + b',{"candidates": 5}]', ["one ü"]),
        # An error that follows an event on its own line can't be told from garbage in it.
        (b"data: " + ONE + BARE_ERROR, []),
    ],
)
def test_garbage_is_a_failure_never_an_end(raw: bytes, texts: list[str]) -> None:
    found, failure = decode(raw)

    assert found == texts
    assert failure is not None
    assert failure[0] == 502


def test_an_error_of_googles_keeps_its_text_and_its_details() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]
    error = {"error": {**ERROR["error"], "code": 429, "details": details}}
    decoder = StreamDecoder()

    decoder.feed(json.dumps(error, indent=2).encode())
    decoder.finish()

    assert decoder.failure is not None
    assert decoder.failure.status == 429
    assert decoder.failure.message == "The model is overloaded."
    assert decoder.failure.detail("RetryInfo")["retryDelay"] == "7s"


def test_chunks_come_as_soon_as_they_are_there() -> None:
    for pieces in ([event(ONE), event(TWO)], [b"[" + ONE, b"," + TWO, b"]"]):
        decoder = StreamDecoder()

        assert [len(decoder.feed(piece)) for piece in pieces][:2] == [1, 1]
        assert decoder.finish() == []
        assert decoder.failure is None
