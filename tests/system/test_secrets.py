"""No key that could open anything stands in a file of the repository."""

import base64
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service_kit.issued_keys import presented
from support.issued_keys import some_key

ROOT = Path(__file__).parents[2]
# Each as whoever issues such keys writes them.
_KINDS = {
    "a Google API key": r"AIza[0-9A-Za-z_-]{35}",
    "an OpenAI-like key": r"sk-(?:proj|svcacct|admin|ant)-[0-9A-Za-z_-]{20,}|sk-[0-9A-Za-z]{40,}",
    "an AWS key": r"(?:AKIA|ASIA)[0-9A-Z]{16}",
    "a GitHub token": r"gh[opsru]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{40,}",
    "a Slack token": r"xox[abprs]-[0-9A-Za-z-]{10,}",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "a token of our own kind": r"sk-[0-9A-Za-z]{8}-[0-9A-Za-z]{40}",
    "a webhook secret": r"whsec_[0-9A-Za-z+/]{32,}={0,2}",
}
_SECRET = re.compile("|".join(f"(?P<k{at}>{kind})" for at, kind in enumerate(_KINDS.values())))
_NAMES = tuple(_KINDS)
# Anybody makes such ones himself, tests too; the others are issued, and open something.
_HOMEMADE = "a webhook secret"
# Random text has more.
_DISTINCT_CHARACTERS_MIN = 9
_BYTES_MAX = 4 * 1024 * 1024


def found_in(text: str) -> Iterator[str]:
    """Tell what kinds of secrets stand in a text; never what they are."""
    for match in _SECRET.finditer(text):
        secret = match[0]
        if len(set(secret)) < _DISTINCT_CHARACTERS_MIN:
            continue
        name = _NAMES[int(str(match.lastgroup)[1:])]
        if name != "a token of our own kind" or presented(secret) is not None:
            yield name


def tracked() -> list[Path]:
    """Return the files that are in the repository, or will be."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("this is no checkout of the repository")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_of_the_repository_has_a_secret_in_it() -> None:
    files = tracked()
    assert len(files) > 100

    leaks = [
        f"{path.relative_to(ROOT)}: {kind}"
        for path in files
        if path.stat().st_size < _BYTES_MAX
        for kind in found_in(path.read_text(encoding="utf-8", errors="replace"))
        if kind != _HOMEMADE or path.relative_to(ROOT).parts[0] != "tests"
    ]

    assert leaks == []


def test_settings_are_in_the_repository_as_examples_only() -> None:
    names = {path.name for path in tracked() if path.name.startswith(".env")}

    assert names == {".env.example"}


def samples() -> dict[str, str]:
    """Make secrets of each kind, so that none has to stand here."""
    return {
        "a Google API key": f"AIza{secrets.token_hex(20)[:35]}",
        "an OpenAI-like key": f"sk-{'proj'}-{secrets.token_hex(24)}",
        "an AWS key": f"AKIA{base64.b32encode(secrets.token_bytes(20)).decode()[:16]}",
        "a GitHub token": f"ghp_{secrets.token_hex(18)}",
        "a Slack token": f"xoxb-{secrets.token_hex(12)}",
        "a private key": "-----BEGIN " + "EC PRIVATE KEY-----",
        "a token of our own kind": some_key(),
        "a webhook secret": f"whsec_{secrets.token_hex(24)}",
    }


@pytest.mark.parametrize("kind", _NAMES)
def test_a_secret_of_each_kind_would_be_found(kind: str) -> None:
    for _ in range(20):
        assert list(found_in(f'KEY="{samples()[kind]}"')) == [kind]


def test_what_only_looks_like_one_of_our_keys_is_none() -> None:
    key = some_key()

    assert list(found_in(key[:-1] + ("0" if key[-1] != "0" else "1"))) == []
