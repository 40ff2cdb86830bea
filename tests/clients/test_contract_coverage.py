"""The table in conftest.py is true, and no number of the contract's list is left out."""

import ast
import re
from itertools import chain

from clients.environments import HERE

WITHOUT_ENDPOINT = set(range(61, 68))
NUMBERS = set(range(1, 71)) - WITHOUT_ENDPOINT
_ROW = re.compile(r"^\| ([0-9, -]+) \| (\S+) \|", re.MULTILINE)
_BEARER = re.compile(r"""^(?:def test_|@?check\(["'])(\d\d)""", re.MULTILINE)


def numbers_in(text: str) -> set[int]:
    """Return the numbers of a list such as ``1-3, 7``."""
    ranges = (entry.strip().partition("-") for entry in text.split(","))
    return set(
        chain.from_iterable(range(int(first), int(last or first) + 1) for first, _, last in ranges)
    )


def test_the_table_names_every_file_with_its_numbers() -> None:
    table = ast.get_docstring(ast.parse((HERE / "conftest.py").read_text(encoding="utf-8"))) or ""
    told = {name: numbers_in(numbers) for numbers, name in _ROW.findall(table)}
    files = [*HERE.glob("test_*.py"), *HERE.glob("frameworks/*.py"), *HERE.glob("node/*.mjs")]
    found = {
        str(file.relative_to(HERE)): {
            int(number) for number in _BEARER.findall(file.read_text(encoding="utf-8"))
        }
        for file in files
    }

    assert told == {name: numbers for name, numbers in found.items() if numbers}
    assert set().union(*told.values()) == NUMBERS
