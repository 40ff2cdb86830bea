"""A shell in which a document's commands are run one after the other, as a reader does."""

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from ai_proxy_service.settings import ProxySettings
from credits_service.settings import CreditsSettings
from support.guide import Block, Command

COMMAND_SECONDS_MAX = 300
# What bash says about itself, which is not to be carried over.
_OF_BASH = {"SHLVL", "_", "OLDPWD", "PWD"}


class Reader:
    """Runs commands in one folder; what a command sets, the next ones see.

    Attributes:
        folder: where all of them run.
        words: what the reader puts in the place of which words of the document.
        learned: the same, found in the output of earlier commands: word → pattern.
        followed: the places of the blocks that were run.
        output: all that they wrote to standard output.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        settings = {*ProxySettings.model_fields, *CreditsSettings.model_fields}
        # A developer's own settings change nothing; his package index is his to name.
        inherited = {
            name: value for name, value in os.environ.items() if name.lower() not in settings
        }
        self.folder = folder
        self.environment = {**inherited, **environment}
        self.words: dict[str, str] = {}
        self.learned: dict[str, str] = {}
        self.followed: set[tuple[str, int]] = set()
        self.output = ""

    def as_typed(self, text: str) -> str:
        """Fill in what the document leaves to its reader."""
        for word, instead in self.words.items():
            text = text.replace(word, instead)
        for word, pattern in self.learned.items():
            if word in text:
                found = re.findall(pattern, self.output)
                assert found, f"nothing so far told what to type for {word}"
                text = text.replace(word, found[-1])
        return text

    def follow(self, blocks: Iterable[Block], *, typed_in: str = "") -> None:
        """Run all commands of some blocks."""
        for block in blocks:
            self.followed.add((block.document, block.line))
            for command in block.commands:
                self.run(command, typed_in=typed_in)

    def run(self, command: Command, *, typed_in: str = "") -> str:
        """Run one command, which must succeed, and return what it wrote."""
        state = self.folder.parent / f"{self.folder.name}.environment"
        typed = f"trap 'env -0 > {state}' EXIT\n{self.as_typed(command.text)}"
        # Without a terminal, programs read passwords from standard input.
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-ac", typed],  # noqa: S607 - the one on the path
            cwd=self.folder,
            env=self.environment,
            input=typed_in,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            start_new_session=True,
            check=False,
        )
        said = f"{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, f"{command.place}: {typed!r} -> {done.returncode}:\n{said}"
        pairs = (pair.partition("=") for pair in state.read_text().split("\0") if pair)
        self.environment = {name: value for name, _, value in pairs if name not in _OF_BASH}
        self.output += done.stdout
        return str(done.stdout)
