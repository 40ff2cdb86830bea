"""`make audit`: what is nailed down, what is known against it, and what is said if nobody knows."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any, ClassVar

import pytest

FILE = Path(__file__).parents[2] / "deploy" / "audit.py"
HASH = f"--hash=sha256:{'0' * 64}"


def _loaded() -> ModuleType:
    spec = spec_from_file_location("audit", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


AUDIT = _loaded()


class Osv(BaseHTTPRequestHandler):
    """The two calls of the vulnerability database that are made."""

    # By package name: the advisories against it.
    known: ClassVar[dict[str, list[dict[str, Any]]]] = {}

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        names = [query["package"]["name"] for query in asked["queries"]]
        self._answer(
            {
                "results": [
                    {"vulns": self.known[name]} if name in self.known else {} for name in names
                ]
            }
        )

    def do_GET(self) -> None:
        wanted = self.path.rpartition("/")[2]
        [found] = [each for vulns in self.known.values() for each in vulns if each["id"] == wanted]
        self._answer(found)

    def _answer(self, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def database(known: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    handler = type("Database", (Osv,), {"known": known})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def advisory(package: str, *, fixed: str | None, **more: Any) -> dict[str, Any]:
    events = [{"introduced": "0"}, *([{"fixed": fixed}] if fixed else [])]
    affected = {"package": {"name": package}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    return {"id": f"TEST-{package}", "summary": "It burns.", "affected": [affected], **more}


def test_every_lock_file_is_nailed_down_and_looked_up(capsys: pytest.CaptureFixture[str]) -> None:
    with database({}) as url:
        code = AUDIT.main(["--database", url])

    said = capsys.readouterr().out
    assert code == 0, said
    assert "3 lock files: each requirement has one version, and hashes." in said
    assert "0 advisories, 0 of them" in said


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ({"fixed": "99.1"}, 1, "TEST-fastapi, fixed in 99.1. It burns."),
        ({"fixed": None}, 0, "TEST-fastapi, not fixed yet. It burns."),
        ({"fixed": "99.1", "withdrawn": "2026-01-01T00:00:00Z"}, 0, "0 advisories"),
    ],
)
def test_only_what_a_later_version_mends_fails_the_check(
    capsys: pytest.CaptureFixture[str], more: dict[str, Any], code: int, said: str
) -> None:
    with database({"fastapi": [advisory("fastapi", **more)]}) as url:
        assert AUDIT.main(["--database", url]) == code

    assert said in capsys.readouterr().out


def test_the_node_clients_are_looked_up_too(capsys: pytest.CaptureFixture[str]) -> None:
    with database({"zod": [advisory("zod", fixed="99.0")]}) as url:
        assert AUDIT.main(["--database", url]) == 1

    assert "zod" in capsys.readouterr().out


def test_what_is_accepted_with_a_reason_is_told_and_passes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = AUDIT.Advisory("TEST-1", AUDIT.Package("PyPI", "a", "1"), "It burns.", ("2",))
    monkeypatch.setattr(AUDIT, "ACCEPTED", {"TEST-1": "not reached"})
    monkeypatch.setattr(AUDIT, "known_against", lambda *_: [found])

    assert AUDIT.main([]) == 0
    assert "(accepted: not reached)" in capsys.readouterr().out


def test_where_no_database_is_reachable_one_line_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert AUDIT.main(["--database", "http://127.0.0.1:9"]) == 0

    assert "No vulnerability database is reachable: http://127.0.0.1:9" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "is_loose"),
    [
        (f"a==1.0 \\\n    {HASH}", False),
        (f"a[x]==1.0 ; sys_platform == 'linux' \\\n    {HASH} \\\n    {HASH}", False),
        ("# a comment", False),
        ("a==1.0", True),
        (f"a>=1.0 \\\n    {HASH}", True),
        ("git+https://host/a.git", True),
    ],
)
def test_a_requirement_needs_one_version_and_a_hash(line: str, is_loose: bool) -> None:
    assert bool(AUDIT.loose(f"{line}\n")) is is_loose
