"""The shell commands of the project's documents, one by one, with what is said about each."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What a comment before a block may say: `<!-- needs: Docker -->`.
TESTED, FOLLOWED, NEEDS = "tested", "followed", "needs"
_MARK = re.compile(r"<!-- (tested|followed|needs)(?:: (.+?))? -->$")
_NEEDS_INLINE = re.compile(r"# needs (.+)$")


@dataclass(frozen=True)
class Block:
    """A block of shell commands.

    Attributes:
        document: the file's path in the repository.
        line: where its first command is.
        heading: the nearest one above it.
        mark: what the comment before it says about how it is tried; empty without one.
        value: what the comment says after the colon.
    """

    document: str
    line: int
    heading: str
    text: str
    mark: str
    value: str

    @property
    def commands(self) -> "list[Command]":
        """The commands of it, loops and continued lines as one each."""
        return list(_commands(self))


@dataclass(frozen=True)
class Command:
    """One command of a block.

    Attributes:
        needs: what has to be there besides what tests have, of the comment or its own line.
    """

    place: str
    text: str
    mark: str
    needs: str


@cache
def blocks(document: str) -> tuple[Block, ...]:
    """Return a document's shell blocks, in its order."""
    found: list[Block] = []
    heading, mark, value, begins = "", "", "", 0
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    fence = ""
    for number, line in enumerate(lines, 1):
        if fence:
            if line == "```":
                if fence in {"```bash", "```sh", "```shell", "```console"}:
                    text = "\n".join(lines[begins : number - 1])
                    found.append(Block(document, begins + 1, heading, text, mark, value))
                fence = mark = value = ""
        elif line.startswith("```"):
            fence, begins = line, number
        elif said := _MARK.match(line):
            mark, value = said[1], said[2] or ""
        elif line:
            mark = value = ""
            heading = line.lstrip("# ") if line.startswith("#") else heading
    return tuple(found)


def _commands(block: Block) -> Iterator[Command]:
    held: list[str] = []
    for offset, line in enumerate(block.text.splitlines()):
        if not held and (not line.strip() or line.startswith("#")):
            continue
        held.append(line)
        text = "\n".join(held)
        if not line.endswith("\\") and _is_whole(text):
            inline = _NEEDS_INLINE.search(line)
            needs = inline[1] if inline else block.value if block.mark == NEEDS else ""
            place = f"{block.document}:{block.line + offset - len(held) + 1}"
            yield Command(place, text, NEEDS if inline else block.mark, needs)
            held = []
    if held:
        raise ValueError(f"{block.document}:{block.line}: bash can't read {held}")


@cache
def _is_whole(text: str) -> bool:
    """Whether bash takes it for complete; it is not run."""
    done = subprocess.run(
        ["bash", "-n"],  # noqa: S607 - the one on the path
        input=text + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0 and not done.stderr
