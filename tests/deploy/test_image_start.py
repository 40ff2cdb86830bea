"""The images without an engine: what is in them, how large it is, and that they start.

What the Dockerfile copies into the image is copied here, owned by root and not writable; its start
command is run as its user, who may write to `DATA_DIR` and the folder for temporary files only.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.components import skip_or_fail
from support.processes import ServiceProcess
from support.stack import ADMIN_KEY, CLIENT_KEY, GEMINI_KEY, MODEL, SERVICE_KEY, say

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "DEPLOYMENT_GUIDE.md").read_text(encoding="utf-8")
SERVICES = ("credits-service", "ai-proxy-service")
TIMEOUT_SECONDS = 60
_MB = 1_000_000
# Sizes of packages change with every lock; a table that is off by more than this is stale.
_STALE_SHARE = 0.25


@dataclass(frozen=True)
class Image:
    """What a Dockerfile says.

    Attributes:
        sources: what is copied from the repository into the build.
        user: the numbers of the user and the group that it runs as.
        command: its start command.
        environment: what the final stage sets.
    """

    service: str
    sources: tuple[str, ...]
    user: tuple[int, int]
    command: tuple[str, ...]
    environment: dict[str, str]


def image(service: str) -> Image:
    """Read a service's Dockerfile."""
    text = (ROOT / "services" / service / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    said = [(name, value.strip()) for name, _, value in (line.partition(" ") for line in lines)]
    copied = [value.split()[:-1] for name, value in said if name == "COPY" and "--" not in value]
    last = dict(said)
    user, group = map(int, last["USER"].split(":"))
    return Image(
        service,
        tuple(source for sources in copied for source in sources),
        (user, group),
        tuple(json.loads(last["CMD"])),
        dict(re.findall(r"(\w+)=(\S+)", last["ENV"])),
    )


def files_of(source: str) -> list[Path]:
    """Return the files that a COPY takes, without what `.dockerignore` keeps out."""
    patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    refused = [line.removeprefix("**/") for line in patterns if line.startswith("**/")]
    admitted = [line.removeprefix("!") for line in patterns if line.startswith("!")]
    assert source in admitted
    path = ROOT / source
    found = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return [
        each
        for each in found
        if not any(
            fnmatch(part, pattern) for part in each.relative_to(ROOT).parts for pattern in refused
        )
    ]


def needed_packages(service: str) -> dict[str, metadata.Distribution]:
    """Return the packages that a service needs, those of these in turn included."""
    found: dict[str, metadata.Distribution] = {}
    waiting: list[tuple[str, str]] = [(service, "")]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        package = found.setdefault(name, metadata.distribution(name))
        for text in package.requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                extras = {"", *wanted.extras}
                waiting += [(canonicalize_name(wanted.name), each) for each in extras]
    return found


def installed_bytes(package: metadata.Distribution) -> int:
    """Return the size of a package's files without compiled Python, of its RECORD."""
    rows = csv.reader((package.read_text("RECORD") or "").splitlines())
    return sum(int(size) for path, _, size in rows if size and not path.endswith(".pyc"))


def sizes(service: str) -> dict[str, float]:
    """Return what is in an image, in MB: our own code, and each package that it needs."""
    packages = needed_packages(service)
    ours = {name for name in packages if (ROOT / "services" / name).is_dir()}
    own = sum(
        file.stat().st_size
        for name in ours
        for file in files_of(f"services/{name}")
        if "src" in file.parts
    )
    found = {"own code": own / _MB}
    for name in packages.keys() - ours:
        found[name] = installed_bytes(packages[name]) / _MB
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_only_the_service_s_own_sources_and_the_lock_are_copied(service: str) -> None:
    made_of = image(service)
    files = [file for source in made_of.sources for file in files_of(source)]

    kinds = {file.suffix or file.name for file in files}
    assert kinds <= {".py", ".typed", ".toml", ".md", ".lock", ".json", ".example", "Dockerfile"}
    assert not any("tests" in file.parts or file.name == ".env" for file in files)
    assert made_of.user == (10001, 10001)
    assert made_of.command == (service,)


@pytest.mark.parametrize("service", SERVICES)
def test_the_guide_tells_what_is_in_the_image_and_how_large_it_is(service: str) -> None:
    found = sizes(service)
    total = sum(found.values())
    largest = sorted(found, key=lambda name: -found[name])[:6]
    shown = ", ".join(f"{name} {found[name]:.2f}" for name in ["own code", *largest])
    # `pytest -rP` shows it.
    sys.stdout.write(f"{service}: {len(found) - 1} packages, {total:.1f} MB: {shown}\n")

    (row,) = re.findall(rf"^\| `{service}` \| .* \| (\d+) \| (\d+) MB \|$", GUIDE, re.MULTILINE)
    packages, shown_mb = map(int, row)
    assert packages == len(found) - 1
    assert shown_mb == pytest.approx(total, rel=_STALE_SHARE)


# --- started as its user ----------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """What an image has, for its user to read, and the folders where he may write.

    Attributes:
        python: the interpreter.
        app: the packages, ours included, and the start commands; root's, and not writable.
        folder: where each service gets a folder of its own for its data.
    """

    python: Path
    app: Path
    folder: Path


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Lay out what the images have; it takes root to run something as another user."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        skip_or_fail("only root, with setpriv, can start a program as the image's user")
    # pytest's own folders can't be entered by others.
    folder = Path(tempfile.mkdtemp(prefix="image-"))
    try:
        folder.chmod(0o755)
        app = folder / "app"
        python = readable_python(folder)
        for service in SERVICES:
            lay_out(service, app, python)
        for each in (app, *app.rglob("*")):
            each.chmod(0o555 if each.is_dir() or each.parent.name == "bin" else 0o444)
        yield Place(python, app, folder)
    finally:
        shutil.rmtree(folder)


def readable_python(folder: Path) -> Path:
    """Return this Python, or a copy where the image's user can't reach it."""
    python = Path(os.path.realpath(sys.executable))
    user = image(SERVICES[0]).user[0]
    # It may start and then find another Python's library, because it can't read its own.
    told = "import sys; print(sys.version, sys.base_prefix)"
    tried = ["setpriv", f"--reuid={user}", "--clear-groups", str(python), "-c", told]
    done = subprocess.run(tried, cwd="/", capture_output=True, text=True, check=False)
    if done.stdout.strip() == f"{sys.version} {sys.base_prefix}":
        return python
    copy = folder / "python"
    skipped = shutil.ignore_patterns("site-packages", "test", "share", "include", "*.a")
    shutil.copytree(sys.base_prefix, copy, symlinks=True, ignore=skipped)
    return copy / "bin" / python.name


def lay_out(service: str, app: Path, python: Path) -> None:
    """Put a service, with what it needs and nothing else, where the image has it."""
    for name, package in needed_packages(service).items():
        source = ROOT / "services" / name / "src"
        if source.is_dir():
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, app / "packages", dirs_exist_ok=True, ignore=skipped)
        for file in package.files or ():
            # Of ours only what says its version: it is installed in place.
            is_wanted = not source.is_dir() or file.parts[0].endswith(".dist-info")
            if is_wanted and ".." not in file.parts:
                copied(Path(str(package.locate_file(file))), app / "packages" / file)
    (entry,) = (each for each in metadata.entry_points(group="console_scripts", name=service))
    script = app / "bin" / service
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"#!{python}\nfrom {entry.module} import {entry.attr}\n{entry.attr}()\n")


def copied(source: Path, target: Path) -> None:
    """Copy a file of a package, with its time, so that what Python compiled of it stays right."""
    if not source.exists() or target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
    if source.suffix == ".py":
        copied(Path(cache_from_source(source)), Path(cache_from_source(target)))


@contextmanager
def started(place: Place, service: str, settings: dict[str, str]) -> Iterator[ServiceProcess]:
    """Run an image's start command as its user, in its data folder, with what the image sets."""
    made_of = image(service)
    user, group = made_of.user
    data = place.folder / service
    data.mkdir()
    os.chown(data, user, group)
    data.chmod(0o700)
    environment = {
        **made_of.environment,
        "PATH": f"{place.app}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(place.app / "packages"),
        "LD_LIBRARY_PATH": str(place.python.parent.parent / "lib"),
        "HOME": "/nonexistent",
        # Not the image's own, which other tests use too.
        "HOST": "127.0.0.1",
        "PORT": "0",
        "DATA_DIR": str(data),
        **settings,
    }
    rights = [f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
    program = str(shutil.which("setpriv"))
    with ServiceProcess(program, environment, *rights, *made_of.command, cwd=data) as process:
        yield process


def test_the_start_commands_serve_as_their_user_from_a_tree_that_is_read_only(place: Place) -> None:
    before = {path: path.stat().st_mtime_ns for path in place.app.rglob("*")}
    with ExitStack() as running:
        simulator = running.enter_context(ServiceProcess("gemini-simulator", {}))
        keys = {"API_KEYS": f"ai-proxy:{SERVICE_KEY}", "ADMIN_API_KEYS": f"operator:{ADMIN_KEY}"}
        ledger = running.enter_context(started(place, "credits-service", keys))
        settings = {
            "API_KEYS": f"alice:{CLIENT_KEY}",
            "GEMINI_API_KEY": GEMINI_KEY,
            "GEMINI_BASE_URL": simulator.url,
            "CREDITS_SERVICE_URL": ledger.url,
            "CREDITS_SERVICE_API_KEY": SERVICE_KEY,
        }
        proxy = running.enter_context(started(place, "ai-proxy-service", settings))
        for process in (ledger, proxy):
            assert uids(process) == {str(image(SERVICES[0]).user[0])}
            assert httpx.get(f"{process.url}/health", timeout=TIMEOUT_SECONDS).status_code == 200
        topped_up = httpx.post(
            f"{ledger.url}/api/v1/topup",
            json={"user_id": "alice", "amount": "1"},
            headers={"authorization": f"Bearer {ADMIN_KEY}", "idempotency-key": "first"},
            timeout=TIMEOUT_SECONDS,
        )
        answer = httpx.post(
            f"{proxy.url}/v1/chat/completions",
            json={"model": MODEL, "messages": say("hello")},
            headers={"authorization": f"Bearer {CLIENT_KEY}"},
            timeout=TIMEOUT_SECONDS,
        )

    assert topped_up.status_code == 201, topped_up.text
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    assert {path: path.stat().st_mtime_ns for path in place.app.rglob("*")} == before
    assert (place.folder / "credits-service" / "ledger.sqlite3").stat().st_uid == 10001
    assert (place.folder / "ai-proxy-service" / "outbox.sqlite3").stat().st_uid == 10001


def uids(process: ServiceProcess) -> set[str]:
    """Return a process's real, effective, saved and file system user."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    (found,) = re.findall(r"^Uid:\t(.*)$", status, re.MULTILINE)
    return set(found.split())


def test_the_tree_can_t_be_written_by_the_image_s_user(place: Place) -> None:
    user = image(SERVICES[0]).user[0]
    packages = place.app / "packages"
    code = f"open({str(packages / 'written.py')!r}, 'w')"

    done = subprocess.run(
        ["setpriv", f"--reuid={user}", "--clear-groups", str(place.python), "-c", code],  # noqa: S607 - the one on the path
        cwd="/",
        env={"LD_LIBRARY_PATH": str(place.python.parent.parent / "lib")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "PermissionError" in done.stderr
