"""Environments of the clients that can't live in the services' own."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
FRAMEWORKS = HERE / "frameworks"
NODE = HERE / "node"
BUILD_SECONDS_MAX = 300
_CACHE = HERE / ".environments"
_STAMP = "ready"

Say = Callable[[str], None]


def python_environment(name: str, say: Say) -> Path:
    """Return the interpreter of the environment that a lock file describes; build it if need be.

    Args:
        name: the lock file's, without its suffix.
        say: shows progress.
    """
    lock = FRAMEWORKS / f"{name}.lock"
    digest = _digest(lock.read_bytes() + sys.version.encode())
    folder = _CACHE / f"{name}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / _STAMP).exists():
        for older in _CACHE.glob(f"{name}-*"):
            shutil.rmtree(older)
        say(f"Installing {name} for the tests of clients …")
        uv = str(Path(sys.executable).parent / "uv")
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], HERE, tries=1)
        packages = ["--require-hashes", "-r", str(lock)]
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *packages], HERE, tries=2)
        (folder / _STAMP).touch()
    return python


def node_problem() -> str | None:
    """Say why no client in JavaScript can be tried here, if so."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    return f"{' and '.join(missing)} can't be found" if missing else None


def install_node_packages(say: Say) -> None:
    """Bring the packages of the clients in JavaScript to what package.json names."""
    wanted = _digest((NODE / "package.json").read_bytes())
    folder = NODE / "node_modules"
    stamp = folder / f".{_STAMP}-{wanted}"
    if stamp.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    say("Installing the clients in JavaScript for the tests of clients …")
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    _run(["npm", "install", *options], NODE, tries=2)
    stamp.touch()


def token_table_folder(python: Path) -> Path:
    """Return where LlamaIndex keeps the token table that tiktoken would fetch from the network."""
    (folder,) = python.parent.parent.glob("lib/*/site-packages/llama_index/core/_static")
    return folder / "tiktoken_cache"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _run(command: Sequence[str], folder: Path, *, tries: int) -> None:
    """Run a command; a network that fails once gets another chance."""
    for left in reversed(range(tries)):
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "VIRTUAL_ENV": ""},
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS_MAX,
            check=False,
        )
        if done.returncode == 0:
            return
        if not left:
            raise AssertionError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
