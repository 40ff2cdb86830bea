"""What clients choose begins no line of its own, steers no terminal and fills no disk."""

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import httpx
import pytest

from service_kit.log_text import LINE_CHARACTERS_MAX, VALUE_CHARACTERS_MAX
from support.kit_app import AUTHORIZED, KEY
from support.processes import ServiceProcess

HOSTILE = {
    "line feed": 'x\n{"event":"forged","level":"info"}',
    "carriage return": "x\r{}",
    "escape": "\x1b[2J\x1b]0;owned\x07",
    "C1 control sequence": "\x9b2J",
    "next line": "x\x85forged",
    "line separator": "x\u2028forged",
    "paragraph separator": "x\u2029forged",
    "null and delete": "\x00\x7f",
    "right to left": "\u202egnp.exe",
    "zero width": "a\u200bb\ufeff",
    "half of a pair": "\ud800",
    "long": "L" * 1_000_000,
    "long and wide": "\u2028" * 1_000_000,
}
PROGRAM = """
import json, logging, sys
from service_kit.logging import configure_logging, get_logger
configure_logging(service="kit", level="INFO", log_format=sys.argv[1])
log, library = get_logger("module"), logging.getLogger("library")
for text in json.load(sys.stdin):
    log.info("asked", value=text)
    log.info(text)
    log.info("asked", nested={"a": [text, {text: text}]})
    log.info("asked", error=ValueError(text))
    library.warning("asked for %s", text)
"""
LINES_OF_EACH = 5
RAISES = """
import sys
from service_kit.logging import configure_logging, get_logger
configure_logging(service="kit", level="INFO", log_format=sys.argv[1])
try:
    raise ValueError(sys.stdin.read())
except ValueError:
    get_logger("module").exception("failed")
"""


def _run(program: str, form: str, given: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program, form],
        input=given.encode("utf-8", "surrogatepass"),
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout.decode().removesuffix("\n").split("\n")


def _steering(text: str) -> list[str]:
    """Return the characters that are neither shown nor a blank: control, format, separators."""
    kinds = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return [hex(ord(found)) for found in text if unicodedata.category(found) in kinds]


@pytest.mark.parametrize("form", ["json", "console"])
def test_each_entry_is_one_line_that_steers_nothing(form: str) -> None:
    lines = _run(PROGRAM, form, json.dumps(list(HOSTILE.values())))

    assert len(lines) == LINES_OF_EACH * len(HOSTILE)
    for line in lines:
        assert _steering(line) == []
        assert len(line) <= 2 * LINE_CHARACTERS_MAX
    if form == "json":
        entries = [json.loads(line) for line in lines]
        assert {entry["service"] for entry in entries} == {"kit"}
        told = [entry["value"] for entry in entries if "value" in entry]
        for said, given in zip(told, HOSTILE.values(), strict=True):
            assert said.startswith(given[:VALUE_CHARACTERS_MAX])
        assert "[1000000 characters]" in told[-1]


def test_an_exception_can_t_pose_as_an_entry() -> None:
    forged = "x\n2026-01-01T00:00:00Z [info     ] forged\x1b[2J"

    (line,) = _run(RAISES, "json", forged)
    first, *others = _run(RAISES, "console", forged)

    assert json.loads(line)["exception"].endswith(forged)
    assert "failed" in first
    assert others
    assert all(line.startswith("  ") for line in others)
    assert _steering(line + first + "".join(others)) == []


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_long_exception_keeps_its_beginning_and_its_end(form: str) -> None:
    lines = _run(RAISES, form, f"begins {'x' * 1_000_000} ends")

    text = "\n".join(lines)
    assert len(text) <= LINE_CHARACTERS_MAX
    assert "Traceback" in text
    assert " ends" in text


def test_no_field_of_a_request_forges_a_line() -> None:
    """Over a real socket: path, method, headers, and an address that a trusted proxy names."""
    env = {
        "API_KEYS": f"tester:{KEY}",
        "FORWARDED_ALLOW_IPS": "*",
        "RATE_LIMIT_ENABLED": "false",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }
    with ServiceProcess("python", env, "-m", "support.kit_app") as process:
        with httpx.Client(base_url=process.url, timeout=60) as client:
            for raw in ("%0A%7B%7D", "%1B%5B2J", "%C2%9B2J", "%E2%80%A8", "%E2%80%AE", "A" * 8000):
                forged = {**AUTHORIZED, "x-forwarded-for": f"1.2.3.4 {raw}"}
                assert client.get(f"/v1/items/{raw}", headers=forged).is_success
                assert client.get(f"/nowhere/{raw}", headers=AUTHORIZED).status_code == 404
            for value in (b"x\x9b2J", b"x\xe2\x80\xa8", b"y" * 8000):
                key = AUTHORIZED["authorization"].encode()
                named = {
                    b"authorization": key,
                    b"x-request-id": value,
                    b"x-forwarded-for": value,
                }
                assert client.get("/v1/whoami", headers=named).is_success
            assert client.request("M" * 2000, "/v1/whoami").is_error
            client.get("/v1/whoami", headers={**AUTHORIZED, "x-request-id": "the-last"})
        process.wait_for_event(event="request", request_id="the-last")

    for line in process.lines:
        assert isinstance(json.loads(line), dict)
        assert _steering(line) == []
        assert len(line) <= LINE_CHARACTERS_MAX
    assert not [event for event in process.events() if len(str(event.get("request_id"))) > 128]
