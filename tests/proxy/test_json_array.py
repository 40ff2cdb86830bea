"""Items of a JSON array as they arrive, however the bytes are cut."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy_service.services.json_array import JsonArrayDecoder

# What Gemini writes between items, and what others may.
SEPARATORS = (b",\r\n", b"\n,\r\n", b" , ", b",")
TEXTS = st.text(st.sampled_from('ab"\\{}[],:\n é😀\u2028'), max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=4)


def decode(raw: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    decoder = JsonArrayDecoder()
    return [
        item for start, end in itertools.pairwise(edges) for item in decoder.feed(raw[start:end])
    ]


@given(
    st.lists(OBJECTS, max_size=5),
    st.sampled_from(SEPARATORS),
    st.booleans(),
    st.sampled_from([None, 2]),
    st.lists(st.integers(min_value=0, max_value=2_000), max_size=30),
)
def test_the_items_do_not_depend_on_how_the_bytes_were_cut(
    items: list[Any], separator: bytes, ascii_only: bool, indent: int | None, cuts: list[int]
) -> None:
    texts = [json.dumps(item, ensure_ascii=ascii_only, indent=indent) for item in items]
    raw = b"[" + separator.join(text.encode() for text in texts) + b"\n]\n"

    assert [json.loads(item) for item in decode(raw, cuts)] == items


@given(st.lists(st.integers(min_value=0, max_value=200), max_size=60))
def test_each_byte_may_come_alone(cuts: list[int]) -> None:
    raw = rb'[{"a": "\\\"}]{[", "b": [{"c": "\\"}, ["]"]]},{},{"d":"\u005d"}]'

    found = decode(raw, cuts)

    assert found == decode(raw, list(range(len(raw)))) == decode(raw, [])
    assert [json.loads(item) for item in found] == json.loads(raw)


def test_an_item_is_returned_as_soon_as_it_is_complete() -> None:
    decoder = JsonArrayDecoder()

    assert decoder.feed(b'[{"a": 1') == []
    assert decoder.feed(b"}") == [b'{"a": 1}']
    assert decoder.feed(b',{"b"') == []
    assert decoder.feed(b": 2},{") == [b'{"b": 2}']


@pytest.mark.parametrize(
    "raw", [b"", b"[", b"[]", b"[ \r\n]", b'[{"a": {"b": 1}', b'[{"a": "x]}', b"[{"]
)
def test_what_is_not_complete_is_no_item(raw: bytes) -> None:
    assert decode(raw, [1]) == []


def test_the_work_grows_with_the_bytes_not_with_their_square() -> None:
    """A long item in small pieces is searched once: all of it comes back in one piece."""
    item = json.dumps({"text": 'x\\"{}[]' * 100_000}).encode()
    raw = b"[" + item + b"]"

    assert decode(raw, list(range(0, len(raw), 1_000))) == [item]
