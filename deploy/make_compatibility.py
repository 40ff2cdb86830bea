"""Make docs/compatibility.md: what becomes of each field that OpenAI's API has.

    python deploy/make_compatibility.py > docs/compatibility.md

The words are in compatibility.yaml; types, limits and tables are read from the proxy's code.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import inspect

from ai_proxy_service.api.errors import error_body
from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.core.gemini_answers import BROKEN_FINISHES
from ai_proxy_service.core.models import DEFAULT_ALIASES
from ai_proxy_service.services.gemini_sdk_request import LEFT_OUT
from ai_proxy_service.translation.embeddings import EmbeddingGoogleOptions, EmbeddingRequest
from ai_proxy_service.translation.errors import to_service_error
from ai_proxy_service.translation.finish import _REASONS
from ai_proxy_service.translation.google_options import GoogleOptions
from ai_proxy_service.translation.openai_types import ChatRequest
from ai_proxy_service.translation.text_completion import TextRequest
from ai_proxy_service.translation.thinking import _FAMILIES, _WITHOUT_THINKING, EFFORTS
from service_kit.errors import ServiceError

WORDS = Path(__file__).with_name("compatibility.yaml")
TYPES: Mapping[str, type[msgspec.Struct]] = {
    struct.__name__: struct
    for struct in (
        ChatRequest,
        TextRequest,
        EmbeddingRequest,
        GoogleOptions,
        EmbeddingGoogleOptions,
    )
}
HEAD = """\
# What becomes of OpenAI's fields

Made by `python deploy/make_compatibility.py > docs/compatibility.md`; a test holds it against the
code.

| here | means |
|---|---|
| **used** | it has an effect |
| **checked** | its type and range are checked; it has no effect |
| ignored | it has no effect; a top-level field is named in `x-proxy-ignored-params` |
| **refused** | 400 `unsupported_parameter`, as leaving it out would change the answer |
| sent | it is in the answer |
| ours | it is in the answer, and not in OpenAI's |
| absent | it is never in the answer |
"""
WEIGHTY = ("used", "checked", "refused")
# What the service answers with, and when. The type belongs to the status and the code.
ERRORS = (
    (400, "invalid_json", "The body is not JSON"),
    (400, "invalid_type", "A value has the wrong type"),
    (400, "invalid_value", "A value is out of range, or contradicts another one"),
    (400, "missing_required_parameter", "Something is missing"),
    (400, "unsupported_parameter", "It can't be honoured, and would change the answer"),
    (400, "unsupported_value", "The same of a value: arrays of tokens"),
    (400, "invalid_image_url", "A file can't be had or read"),
    (400, "model_not_found", "The model is unknown, or has no price"),
    (400, "context_length_exceeded", "The messages are too long for the model"),
    (401, "invalid_api_key", "No accepted key"),
    (402, "insufficient_quota", "The account can't pay"),
    (403, "account_frozen", "An operator has frozen the account; `account_closed` likewise"),
    (404, "model_not_found", "Of `GET /v1/models/{id}`"),
    (404, "account_not_found", "Of `GET /v1/credits`: nobody has topped the account up"),
    (404, "not_found", "There is no such route"),
    (405, "method_not_allowed", "The route has another method; `allow` names it"),
    (413, "request_too_large", "The body is larger than `MAX_BODY_BYTES`"),
    (429, "rate_limit_exceeded", "The limit per address, or Gemini's, is reached"),
    (500, "internal_error", "The gateway or Gemini failed"),
    (502, "upstream_error", "Gemini's answer can't be used"),
    (502, "upstream_auth_error", "Gemini does not accept the gateway's key"),
    (503, "billing_unavailable", "It can't be found out whether the account can pay"),
    (503, "server_is_overloaded", "Gemini is overloaded, or the gateway stops"),
    (504, "upstream_timeout", "Gemini did not answer in time"),
)
_DAILY = {"@type": "QuotaFailure", "violations": [{"quotaId": "RequestsPerDayPerModel"}]}
_NO_KEY = {"@type": "ErrorInfo", "reason": "API_KEY_INVALID"}
GEMINI_ERRORS = (
    ("400, a bad request", GeminiError(400, "INVALID_ARGUMENT", "")),
    (
        "400, too many tokens",
        GeminiError(400, "INVALID_ARGUMENT", "input token count exceeds the maximum"),
    ),
    ("400, the key is not valid", GeminiError(400, "INVALID_ARGUMENT", "", [_NO_KEY])),
    ("400, region or billing", GeminiError(400, "FAILED_PRECONDITION", "")),
    ("401", GeminiError(401, "UNAUTHENTICATED", "")),
    ("402", GeminiError(402, "RESOURCE_EXHAUSTED", "")),
    ("403", GeminiError(403, "PERMISSION_DENIED", "")),
    ("404", GeminiError(404, "NOT_FOUND", "")),
    ("429, per minute", GeminiError(429, "RESOURCE_EXHAUSTED", "retry in 20s")),
    ("429, per day", GeminiError(429, "RESOURCE_EXHAUSTED", "", [_DAILY])),
    ("500", GeminiError(500, "INTERNAL", "")),
    ("503", GeminiError(503, "UNAVAILABLE", "")),
    ("504", GeminiError(504, "DEADLINE_EXCEEDED", "")),
)


def sections() -> list[dict[str, Any]]:
    """Return the document's sections, as compatibility.yaml has them."""
    loaded: list[dict[str, Any]] = yaml.safe_load(WORDS.read_text(encoding="utf-8"))
    return loaded


def fields(struct: type[msgspec.Struct], prefix: str = "") -> dict[str, str]:
    """Return what a type's fields take, by their paths, down to the innermost."""
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)
    return dict(_fields(described, prefix))


def _fields(struct: inspect.StructType, prefix: str) -> Iterator[tuple[str, str]]:
    for field in struct.fields:
        path = f"{prefix}{field.encode_name}"
        yield path, _takes(field.type)
        for inner, below in _structs(field.type, path):
            yield from _fields(inner, f"{below}.")


def _structs(kind: inspect.Type, path: str) -> Iterator[tuple[inspect.StructType, str]]:
    if isinstance(kind, inspect.StructType):
        yield kind, path
    elif isinstance(kind, inspect.ListType):
        yield from _structs(kind.item_type, f"{path}[]")
    elif isinstance(kind, inspect.UnionType):
        for choice in kind.types:
            yield from _structs(choice, path)


def _takes(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.UnionType):
        choices = [choice for choice in kind.types if not isinstance(choice, inspect.NoneType)]
        return " or ".join(_takes(choice) for choice in choices)
    if isinstance(kind, inspect.ListType):
        least = f", {kind.min_length} or more" if kind.min_length else ""
        most = f", at most {kind.max_length}" if kind.max_length else ""
        return f"list of {_takes(kind.item_type)}{least}{most}"
    if isinstance(kind, inspect.LiteralType):
        return ", ".join(f"`{value}`" for value in kind.values)
    return _takes_single(kind)


def _takes_single(kind: inspect.Type) -> str:
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        name = "integer" if isinstance(kind, inspect.IntType) else "number"
        return f"{name}{_range(kind.ge, kind.le)}"
    if isinstance(kind, inspect.StrType):
        limits = _range(kind.min_length, kind.max_length)
        return f"text of{limits} characters" if limits else "text"
    if isinstance(kind, inspect.BoolType):
        return "boolean"
    return "anything" if isinstance(kind, inspect.AnyType) else "object"


def _range(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" {least:g} to {most:g}"
    return "" if least is None else f" ≥ {least:g}"


def thinking() -> list[tuple[str, ...]]:
    """Return the table of efforts."""
    rows = [
        (f"`{family}…`", *(f"{traits.settings[effort]}" for effort in EFFORTS))
        for family, traits in sorted(_FAMILIES.items())
    ]
    others = ", ".join(f"`…{mark}…`" for mark in _WITHOUT_THINKING)
    rows.append((f"{others}, any other", *("left alone" for _ in EFFORTS)))
    return [("model", *(f"`{effort}`" for effort in EFFORTS)), *rows]


def finishes() -> list[tuple[str, ...]]:
    """Return the table of finish reasons."""
    words: dict[str, list[str]] = {}
    for native, word in _REASONS.items():
        words.setdefault(f"`{word}`", []).append(f"`{native}`")
    rows = [(", ".join(natives), word) for word, natives in words.items()]
    rows.append((", ".join(f"`{name}`" for name in sorted(BROKEN_FINISHES)), "an error: 502"))
    rows.append(("any other", "`stop` if there is output, else `content_filter`"))
    rows.append(("none", "an error: 502"))
    return [("Gemini", "here"), *rows]


def aliases() -> list[tuple[str, ...]]:
    """Return the table of aliases."""
    return [("name", "model"), *((f"`{a}`", f"`{m}`") for a, m in DEFAULT_ALIASES.items())]


def errors() -> list[tuple[str, ...]]:
    """Return the table of errors."""
    rows = []
    for status, code, when in ERRORS:
        shown = msgspec.json.decode(error_body(ServiceError("", status=status, code=code), ""))
        rows.append((str(status), shown["error"]["type"], shown["error"]["code"] or "null", when))
    return [("status", "type", "code", "when"), *rows]


def gemini_errors() -> list[tuple[str, ...]]:
    """Return the table of Gemini's errors."""
    found = [(given, to_service_error(error)) for given, error in GEMINI_ERRORS]
    return [
        ("Gemini", "here"),
        *((given, f"{error.status} `{error.code}`") for given, error in found),
    ]


def sdk() -> list[tuple[str, ...]]:
    """Return the table of what has no effect with Google's SDK."""
    return [("without effect",), *((f"`{name}`",) for name in sorted(LEFT_OUT))]


TABLES = {
    table.__name__: table for table in (thinking, finishes, aliases, errors, gemini_errors, sdk)
}


def _section_table(section: Mapping[str, Any]) -> list[tuple[str, ...]]:
    if "made" in section:
        return TABLES[section["made"]]()
    rows: Mapping[str, tuple[str, str]] = section.get("rows", {})
    if not rows:
        return []
    first = "value" if section.get("values") else "field"
    takes = fields(TYPES[section["of"]], _root(section)) if "of" in section else None
    header = (first, *(["takes"] if takes is not None else []), "here", "what becomes of it")
    table = [header]
    for name, (here, text) in rows.items():
        word = f"**{here}**" if here in WEIGHTY else here
        kind = [takes.get(name, "anything")] if takes is not None else []
        table.append((_shown(name, section), *kind, word, text))
    return table


def _root(section: Mapping[str, Any]) -> str:
    return "google." if "GoogleOptions" in section["of"] else ""


def _shown(name: str, section: Mapping[str, Any]) -> str:
    return name if name == "anything else" else f"`{name.removeprefix(section.get('prefix', ''))}`"


def document() -> str:
    """Return the whole document."""
    blocks = [HEAD]
    for section in sections():
        blocks.append(f"{'#' * section.get('level', 3)} {section['title']}\n")
        if "intro" in section:
            blocks.append(f"{section['intro']}\n")
        table = _section_table(section)
        if table:
            lines = ["| " + " | ".join(row) + " |" for row in table]
            lines.insert(1, "|" + "---|" * len(table[0]))
            blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


if __name__ == "__main__":
    sys.stdout.write(document())
