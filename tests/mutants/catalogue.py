"""The planted faults: what is changed where, and what that breaks."""

import tomllib
from pathlib import Path
from typing import NamedTuple

import credits_service

SOURCE = Path(credits_service.__file__).parent
_HERE = Path(__file__).parent


class Mutant(NamedTuple):
    """A planted fault.

    Attributes:
        area: the catalogue that it is in: `rules` or `storage`.
        file: below the package `credits_service`.
        old: text that occurs there exactly once.
        new: what takes its place.
        breaks: what is wrong then.
    """

    area: str
    file: str
    old: str
    new: str
    breaks: str


def all_mutants() -> list[Mutant]:
    """Read the catalogues."""
    return [
        Mutant(area, **entry)
        for area in ("rules", "storage")
        for entry in tomllib.loads((_HERE / f"{area}.toml").read_text("utf-8"))["mutant"]
    ]


def planted(mutant: Mutant, source: Path = SOURCE) -> str:
    """Return the file's text with the fault in it.

    Raises:
        LookupError: the old text is not there, or there more than once.
    """
    text = (source / mutant.file).read_text("utf-8")
    if (count := text.count(mutant.old)) != 1:
        raise LookupError(f"{mutant.file}: {mutant.breaks!r}: the text occurs {count} times")
    return text.replace(mutant.old, mutant.new)
