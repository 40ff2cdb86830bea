"""Bodies that are nearly right: valid skeletons in which single values are replaced by bad ones."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

_DEPTH = 600
_LONG_CHARS = 30_000


@dataclass(frozen=True)
class Raw:
    """Text that stands in the JSON as it is."""

    text: str


@dataclass(frozen=True)
class Twice:
    """A value whose key comes twice, first with another value."""

    first: Any
    then: Any


def encode(value: Any) -> bytes:
    """Encode a tree in which `Raw` and `Twice` may stand; lone surrogates become escapes."""
    return _text(value).encode()


def _text(value: Any) -> str:
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Twice):
        return _text(value.then)
    if isinstance(value, list):
        return "[" + ",".join(_text(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(_members(value)) + "}"
    return json.dumps(value)


def _members(value: dict[str, Any]) -> Iterator[str]:
    for name, item in value.items():
        if isinstance(item, Twice):
            yield f"{json.dumps(name)}:{_text(item.first)}"
        yield f"{json.dumps(name)}:{_text(item)}"


NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 0.5, -0.0, 1e-320, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63)),
    *("", " ", "x", "none", "auto", "data:", "data:;base64,", "https://", "files/x", "\x00"),
    *("\ud800", "a\udc00b", "\u202e\ufeff\U0001f600", "{}", "[1]", "{", '{"$ref":"#"}', "\r\n"),
    *("data:image/png;base64,A", "data:image/png;base64,====", "data:image/png,abc", "gopher://x"),
    *("x" * _LONG_CHARS, "'; DROP TABLE accounts; --", "../../etc/passwd", "{{7*7}}", "%s%n"),
    *([], {}, [[]], [None], [{}], {"": ""}, {"type": "text"}, {"type": None}, [1, "a", None]),
    *({"url": None}, {"name": "f"}, {"__proto__": {}}, {"type": "x" * 300}, ["a"] * 200),
    *(Raw("NaN"), Raw("Infinity"), Raw("1e999"), Raw("-1e999"), Raw("9" * 400), Raw("1.0")),
    *(Raw("0" * 3), Raw('"\\ud800"'), Raw('"\\u0000"'), Raw('"\\ud83d\\ude00"'), Raw("")),
    *(Raw("1E400000"), Raw("-"), Raw("tru"), Raw('"\t"'), Raw("/**/1"), Raw("0x10")),
    Raw("[" * _DEPTH + "]" * _DEPTH),
    Raw('{"a":' * _DEPTH + "1" + "}" * _DEPTH),
    Raw('{"type":"object","properties":{"a":' * 90 + "{}" + "}}" * 90),
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _paths(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _paths(item, (*path, index))


def _changed(value: Any, path: tuple[Any, ...], replacement: Any) -> Any:
    """Return a copy with one value replaced; a path that is no longer there changes nothing."""
    if not path:
        return replacement
    step, *rest = path
    if isinstance(value, dict) and step in value:
        return {**value, step: _changed(value[step], tuple(rest), replacement)}
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return [*value[:step], _changed(value[step], tuple(rest), replacement), *value[step + 1 :]]
    return value


def replaced_anywhere(value: Any, replacement: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Return copies, in each of which another value is replaced, and where that is."""
    for path in _paths(value):
        if path:
            yield path, _changed(value, path, replacement)


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def _alike(given: Any) -> tuple[Any, ...]:
    """Return the bad values of the same type, which come further than others."""
    return tuple(value for value in NASTY if type(value) is type(given)) or NASTY


@st.composite
def hostile(draw: st.DrawFn, skeletons: tuple[dict[str, Any], ...]) -> bytes:
    """Return a strategy for encoded bodies with one to three bad values."""
    skeleton = draw(st.sampled_from(skeletons))
    paths = [path for path in _paths(skeleton) if path]
    body: Any = skeleton
    for path in draw(st.lists(st.sampled_from(paths), min_size=1, max_size=3, unique=True)):
        given = _at(skeleton, path)
        nasty = draw(st.sampled_from(draw(st.sampled_from((NASTY, _alike(given))))))
        how = draw(st.sampled_from(("replace", "replace", "replace", "wrap", "repeat", "add")))
        if how == "wrap":
            nasty = [given, nasty] if isinstance(given, list) else [given]
        elif how == "repeat":
            nasty = Twice(nasty, given)
        elif how == "add" and isinstance(given, dict):
            nasty = {**given, draw(st.sampled_from(("type", "extra", "text", "\ud800", ""))): nasty}
        elif how == "add" and isinstance(given, list):
            nasty = [*given, nasty, *given]
        body = _changed(body, path, nasty)
    return encode(body)
