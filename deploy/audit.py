"""Check the locked dependencies: are they nailed down, and is anything known against them?

    python deploy/audit.py [--database URL] [--index]

Every requirement of every lock file must have one version and hashes. Each version, those of the
Node clients too, is looked up in the OSV database (https://google.github.io/osv.dev/api/). What is
fixed in a later version fails the check, unless `ACCEPTED` says why it may stay; what is not fixed
yet is told. Where the database can't be reached, that is said, and the rest is checked.

With --index the package index is asked as well: whether each file is still there, and not yanked.

For the code itself ruff's S rules run with every `make lint`. They are bandit's: bandit 1.9 finds
nothing in services/*/src but what a `noqa` or pyproject.toml gives a reason for, and two calls of
a dict that is named `requests`.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx

ROOT = Path(__file__).resolve().parents[1]
DATABASE = "https://api.osv.dev"
LOCKS = tuple(
    str(each.relative_to(ROOT))
    for each in (
        ROOT / "requirements.lock",
        *sorted((ROOT / "tests").glob("clients/frameworks/*.lock")),
    )
)
NODE = "tests/clients/node/package.json"
# Advisories that may stay although there is a fixed version: the id, and why.
ACCEPTED: Mapping[str, str] = {}
SECONDS_MAX = 20.0
# As many as the database answers at once.
ASKED_MAX = 1000
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?==(?P<version>[^\s;]+)")
_EXACT = re.compile(r"\d+(\.\d+)*([.+-][0-9A-Za-z.+-]+)?")


class Package(NamedTuple):
    """A package in one version, as the database names it."""

    ecosystem: str
    name: str
    version: str


class Advisory(NamedTuple):
    """Something known against a package; `fixed` are the versions without it, if there are any."""

    id: str
    package: Package
    summary: str
    fixed: tuple[str, ...]


def requirements(text: str) -> Iterator[str]:
    """Split a lock file into its requirements, each with its hashes."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in joined.splitlines():
        requirement = line.strip()
        if requirement and not requirement.startswith(("#", "--")):
            yield requirement


def loose(text: str) -> list[str]:
    """Return the requirements of a lock file without a version of their own, or a hash."""
    return [
        line[:80]
        for line in requirements(text)
        if not _REQUIREMENT.match(line) or "--hash=sha256:" not in line
    ]


def locked(text: str) -> list[Package]:
    """Return what a lock file installs."""
    found = map(_REQUIREMENT.match, requirements(text))
    return [Package("PyPI", each["name"], each["version"]) for each in found if each]


def node_packages(text: str) -> list[Package]:
    """Return what a package.json asks for by an exact version."""
    wanted: dict[str, str] = json.loads(text).get("dependencies", {})
    return [
        Package("npm", name, version)
        for name, version in wanted.items()
        if _EXACT.fullmatch(version)
    ]


def known_against(packages: Iterable[Package], client: httpx.Client) -> list[Advisory]:
    """Look packages up in the database.

    Raises:
        httpx.HTTPError: it does not answer, or not as it should.
    """
    wanted = sorted(set(packages))
    found: list[Advisory] = []
    for start in range(0, len(wanted), ASKED_MAX):
        part = wanted[start : start + ASKED_MAX]
        answer = _ask(
            client, "POST", "/v1/querybatch", {"queries": [_query(each) for each in part]}
        )
        for package, result in zip(part, answer["results"], strict=True):
            for short in result.get("vulns", ()):
                advisory = _ask(client, "GET", f"/v1/vulns/{short['id']}")
                if "withdrawn" not in advisory:
                    found.append(_advisory(package, advisory))
    return found


def _ask(client: httpx.Client, method: str, path: str, body: Any = None) -> dict[str, Any]:
    answer = client.request(method, path, json=body).raise_for_status()
    try:
        found: dict[str, Any] = answer.json()
    except ValueError as error:
        raise httpx.DecodingError("its answer is no JSON") from error
    return found


def _query(package: Package) -> dict[str, Any]:
    named = {"name": package.name, "ecosystem": package.ecosystem}
    return {"package": named, "version": package.version}


def _advisory(package: Package, advisory: Mapping[str, Any]) -> Advisory:
    fixed = {
        event["fixed"]
        for affected in advisory.get("affected", ())
        if affected.get("package", {}).get("name", "").lower() == package.name.lower()
        for versions in affected.get("ranges", ())
        if versions["type"] != "GIT"
        for event in versions["events"]
        if "fixed" in event
    }
    summary = advisory.get("summary") or advisory.get("details", "")[:100]
    return Advisory(advisory["id"], package, summary, tuple(sorted(fixed)))


def told(advisory: Advisory) -> str:
    """Write an advisory as one line."""
    _, name, version = advisory.package
    fixed = f"fixed in {', '.join(advisory.fixed)}" if advisory.fixed else "not fixed yet"
    accepted = ACCEPTED.get(advisory.id)
    why = "" if accepted is None else f" (accepted: {accepted})"
    return f"{name} {version}: {advisory.id}, {fixed}{why}. {advisory.summary}"


def index_problems() -> list[str]:
    """Ask the package index whether every locked file is there, and not yanked."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    words = ["pip", "install", "--dry-run", "--reinstall", "--require-hashes"]
    done = subprocess.run(  # noqa: S603 - our own tool, with words of ours
        [uv, *words, "--python", sys.executable, "-r", "requirements.lock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    yanked = [line for line in lines if "yanked" in line]
    return yanked if done.returncode == 0 else [*yanked, *lines[-5:]]


def check_database(packages: list[Package], url: str) -> bool:
    """Look everything up and say what was found; return whether it is acceptable."""
    try:
        with httpx.Client(base_url=url, timeout=SECONDS_MAX) as client:
            found = known_against(packages, client)
    except (httpx.HTTPError, KeyError) as error:
        print(f"No vulnerability database is reachable: {url} ({type(error).__name__}).")
        return True
    for advisory in found:
        print(told(advisory))
    open_ones = [each for each in found if each.fixed and each.id not in ACCEPTED]
    print(
        f"{len(set(packages))} packages looked up: {len(found)} advisories, "
        f"{len(open_ones)} of them with a fixed version to go to."
    )
    return not open_ones


def main(arguments: list[str] | None = None) -> int:
    """Check everything; return the exit code."""
    parser = argparse.ArgumentParser(description="Check the locked dependencies.")
    parser.add_argument("--database", default=DATABASE, metavar="URL", help="OSV's API")
    parser.add_argument("--index", action="store_true", help="ask the package index as well")
    asked = parser.parse_args(arguments)
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in LOCKS}
    packages = node_packages((ROOT / NODE).read_text(encoding="utf-8"))
    problems: list[str] = []
    for name, text in texts.items():
        packages += locked(text)
        problems += [f"{name}: no version or no hash: {line}" for line in loose(text)]
    if not problems:
        print(f"{len(texts)} lock files: each requirement has one version, and hashes.")
    if asked.index:
        withdrawn = index_problems()
        problems += withdrawn
        if not withdrawn:
            print("The package index has every locked file, and none is yanked.")
    for problem in problems:
        print(problem)
    is_clean = check_database(packages, asked.database)
    return 1 if problems or not is_clean else 0


if __name__ == "__main__":
    sys.exit(main())
