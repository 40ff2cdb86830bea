"""What may stand in a log line: no secret, nothing that steers a terminal, not too much. Pure.

Clients choose much of what is logged: paths, ids, names, addresses. None of it may begin a line of
its own, colour or rewrite a terminal, or fill the disk.
"""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

VALUE_CHARACTERS_MAX = 2048
EXCEPTION_CHARACTERS_MAX = 32_768
LINE_CHARACTERS_MAX = 65_536
_ITEMS_MAX = 100
_DEPTH_MAX = 6
_SQUEEZED_CHARACTERS_MAX = 200
# Texts of several lines, which only the program itself writes.
_TRACES = frozenset({"exception", "stack"})

# Last line of defence; nothing should log a secret in the first place. Ours begin with sk-,
# Google's API keys with AIza or AQ., secrets of webhooks with whsec_; and passwords in URLs.
_SECRET = re.compile(
    r"(?i)(?<![a-z0-9])(bearer\s+|sk-|AIza|AQ\.(?=[\w-]{20})|whsec_)[A-Za-z0-9_\-.~+/]{6,}=*"
)
_PASSWORD = re.compile(r"(://[^/\s:@\"']*:)(?!\d{1,5}/)[^\s@\"']+@")
_WORD = re.compile(r"[^\s\"']+")
# What each of them begins with: nearly every line has none, which this tells at once.
_SECRET_MARKS = ("bearer", "sk-", "aiza", "aq.", "whsec_")

# Control characters, C1 ones included (one of them is a terminal's CSI); what ends a line for
# some readers; what reverses or hides text; halves of surrogate pairs.
_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff]"
)


def mask_secrets(text: str) -> str:
    """Replace what looks like an API key, a bearer token or a URL's password."""
    if "@" in text and "://" in text:
        text = _WORD.sub(_without_passwords, text)
    lower = text.lower()
    if not any(mark in lower for mark in _SECRET_MARKS):
        return text
    return _SECRET.sub(r"\1…", text)


def _without_passwords(word: re.Match[str]) -> str:
    """Mask passwords up to a word's last @: beyond it each `://` would search to the word's end."""
    head, at, rest = word[0].rpartition("@")
    return _PASSWORD.sub(r"\1…@", head + at) + rest


def bounded(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event with no value longer than a log needs."""
    return {
        name: _bounded_trace(value) if name in _TRACES else _bounded(value, _DEPTH_MAX)
        for name, value in event.items()
    }


def squeezed(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event that is too long all the same, with a little of each value."""
    return {
        name: value
        if value is None or isinstance(value, bool | int | float)
        else str(value)[:_SQUEEZED_CHARACTERS_MAX]
        for name, value in event.items()
    }


def escaped_json(line: str) -> str:
    """Escape what JSON itself leaves as it is; the line stays the same document."""
    if line.isascii() and "\x7f" not in line:
        return line
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def escaped_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event for people's eyes: one line, and under it what an exception says.

    Lines of an exception are indented: what it quotes can't pose as an entry of the log.
    """
    return {
        name: _indented(value)
        if name in _TRACES and isinstance(value, str)
        else (_escaped(value) if isinstance(value, str) else value)
        for name, value in event.items()
    }


def _bounded(value: Any, depth: int) -> Any:
    if type(value) is str:
        return _cut(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth and isinstance(value, Mapping):
        pairs = islice(value.items(), _ITEMS_MAX)
        return {_cut(str(name)): _bounded(item, depth - 1) for name, item in pairs}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_bounded(item, depth - 1) for item in islice(value, _ITEMS_MAX)]
    return _cut(str(value))


def _cut(text: str) -> str:
    if len(text) <= VALUE_CHARACTERS_MAX:
        return text
    return f"{text[:VALUE_CHARACTERS_MAX]} [{len(text)} characters]"


def _bounded_trace(value: Any) -> str:
    """Keep an exception's beginning and its end, where it says what happened."""
    text = str(value)
    if len(text) <= EXCEPTION_CHARACTERS_MAX:
        return text
    half = EXCEPTION_CHARACTERS_MAX // 2
    return f"{text[:half]}\n[{len(text)} characters]\n{text[-half:]}"


def _indented(text: str) -> str:
    return "\n".join(f"  {_escaped(line)}" for line in text.split("\n"))


def _escaped(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
