"""What docs/compatibility.md says, as its generator reads it."""

import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GENERATOR = runpy.run_path(str(ROOT / "deploy" / "make_compatibility.py"))
SECTIONS: list[dict[str, Any]] = GENERATOR["sections"]()
_BY_ID: dict[str, dict[str, str]] = {
    section["id"]: {name: row[0] for name, row in section["rows"].items()}
    for section in SECTIONS
    if "id" in section
}
CHAT_SECTIONS = ("chat", "chat-more", "messages", "parts", "tools")


def rows(*section_ids: str) -> dict[str, str]:
    """Return the rows of sections: in a word, what the document says of each field."""
    return {name: here for each in section_ids for name, here in _BY_ID[each].items()}


def claimed(word: str, *section_ids: str) -> list[str]:
    """Return the top-level fields of which the document says this."""
    return [name for name, here in rows(*section_ids).items() if here == word and "." not in name]


def accepted_kinds(section_id: str) -> set[str]:
    """Return the kinds that the document says are accepted; all others it says are refused."""
    named = dict(rows(section_id))
    assert named.pop("anything else") == "refused"
    assert set(named.values()) == {"used"}
    return set(named)
