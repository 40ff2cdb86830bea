"""Splitting Gemini's event streams, however their bytes arrive."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy_service.services.sse import STRAY_LINES_MAX, SseDecoder

STREAM = (
    b'data: {"t": "a\xe2\x80\xa8b"}\r\n\r\n'
    b": ping\r\n\r\n"
    b'data: {"t": "\xc2\x85"}\r\n\r\n'
    b"event: x\r\ndata: one\r\ndata: two\r\n\r\n"
    b'{\n  "error": {"code": 499}\n}\r\n'
    b"data: last"
)
EVENTS = [
    b'{"t": "a\xe2\x80\xa8b"}',
    b'{"t": "\xc2\x85"}',
    b"one\ntwo",
    b"last",
]


def decode(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    decoder = SseDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.finish(), decoder.stray


@given(st.lists(st.integers(min_value=0, max_value=len(STREAM)), max_size=40))
def test_the_events_do_not_depend_on_how_the_bytes_were_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in itertools.pairwise(edges)]

    events, stray = decode(pieces)

    assert events == EVENTS
    assert stray == b'{\n  "error": {"code": 499}\n}'


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_both_line_ends_are_understood(end: bytes) -> None:
    assert decode([b"data: 1" + end + end + b"data:2" + end + end]) == ([b"1", b"2"], b"")


def test_an_event_is_returned_as_soon_as_its_blank_line_has_come() -> None:
    decoder = SseDecoder()

    assert decoder.feed(b"data: 1\r\n") == []
    assert decoder.feed(b"\r\n") == [b"1"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_missing_blank_line_between_whole_objects_ends_an_event(end: bytes) -> None:
    raw = b'data: {"a": 1}' + end + b'data: {"b": "}"}' + end + end + b'data: {"c": 3}'

    assert decode([raw]) == ([b'{"a": 1}', b'{"b": "}"}', b'{"c": 3}'], b"")


def test_an_object_on_several_lines_is_still_one_event() -> None:
    """The lines in between look complete, but aren't."""
    raw = b'data: {"a": {"b": 1}\ndata: ,"c": {}\ndata: }\n\n'

    assert decode([raw]) == ([b'{"a": {"b": 1}\n,"c": {}\n}'], b"")


@given(st.lists(st.integers(min_value=0, max_value=60), max_size=20))
def test_a_missing_blank_line_does_not_depend_on_the_cuts(cuts: list[int]) -> None:
    raw = b'data: {"a": "\xc3\xa9"}\r\ndata: {"b": 2}\r\n\r\n'
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]

    events, stray = decode([raw[start:end] for start, end in itertools.pairwise(edges)])

    assert (events, stray) == ([b'{"a": "\xc3\xa9"}', b'{"b": 2}'], b"")


@pytest.mark.parametrize("raw", [b"", b"\n\n\n", b": ping\n\n", b"event: x\nid: 1\nretry: 5\n\n"])
def test_what_has_no_data_is_no_event(raw: bytes) -> None:
    assert decode([raw]) == ([], b"")


def test_what_strays_in_is_kept_only_so_far() -> None:
    _, stray = decode([b"x\n" * 5_000])

    assert stray.count(b"x") == STRAY_LINES_MAX
