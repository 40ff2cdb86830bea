"""One form for every line, and no secret in any."""

import json
import subprocess
import sys

import pytest

from service_kit.log_text import mask_secrets

PROGRAM = """
import logging, warnings
from service_kit.logging import configure_logging, get_logger
configure_logging(service="kit", level={level!r}, log_format={form!r})
log = get_logger("module")
library = logging.getLogger("library")
{body}
"""


def _logged(body: str, *, level: str = "INFO", form: str = "json") -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body, level=level, form=form)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stderr == ""
    return ended.stdout.splitlines()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("key sk-0a1b2c3d4e5f", "key sk-…"),
        ("Authorization: Bearer abc.def-ghi_123==", "Authorization: Bearer …"),
        ("authorization: bearer   sk-0a1b2c3d", "authorization: bearer   …"),
        ("secret=whsec_MfKQ9r8GKY+q/rTw==", "secret=whsec_…"),
        ("?key=AIzaSyA-0123456789abcdef", "?key=AIza…"),
        ("('sk-aaaaaaaa', 'sk-bbbbbbbb')", "('sk-…', 'sk-…')"),
        ("?key=AQ.Ab8RN6Lx0a1b2c3d4e5f6071-_", "?key=AQ.…"),
        ("to redis://app:pa/s?s#w@store:6379/0", "to redis://app:…@store:6379/0"),
        ("postgresql://me:secret@one:1,two:2/x", "postgresql://me:…@one:1,two:2/x"),
        ("http://host:8001/a@b", "http://host:8001/a@b"),
        (
            "see the FAQ.or-else-ask-somebody-who-knows",
            "see the FAQ.or-else-ask-somebody-who-knows",
        ),
        ("line\nsk-0a1b2c3d", "line\nsk-…"),
        (
            "the task-scheduler and its risk-assessment",
            "the task-scheduler and its risk-assessment",
        ),
        ("sk-", "sk-"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_keys_are_masked_and_other_words_are_not(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked


def test_a_line_is_one_json_object() -> None:
    (line,) = _logged('log.info("started", port=8001, ratio=0.5, names=["a", "b"], none=None)')

    entry = json.loads(line)
    assert (entry["event"], entry["level"], entry["logger"]) == ("started", "info", "module")
    assert (entry["service"], entry["port"], entry["ratio"]) == ("kit", 8001, 0.5)
    assert (entry["names"], entry["none"]) == (["a", "b"], None)
    assert entry["timestamp"].endswith("Z")


def test_libraries_write_the_same_form() -> None:
    (line,) = _logged('library.warning("retry %d of %s", 2, "it")')

    entry = json.loads(line)
    assert (entry["event"], entry["level"], entry["logger"]) == (
        "retry 2 of it",
        "warning",
        "library",
    )
    assert entry["service"] == "kit"


def test_warnings_of_python_write_the_same_form() -> None:
    (line,) = _logged('warnings.warn("this is old", FutureWarning)')

    assert "FutureWarning: this is old" in json.loads(line)["event"]


@pytest.mark.parametrize(
    "body",
    [
        'log.info("call", key="sk-0a1b2c3d4e5f")',
        'log.info("call sk-0a1b2c3d4e5f")',
        'log.info("call", headers={"authorization": ["Bearer sk-0a1b2c3d4e5f"]})',
        'log.info("call", nested=[{"a": ("x", {"b": "sk-0a1b2c3d4e5f"})}])',
        'log.info("call", by_key={"sk-0a1b2c3d4e5f": 1})',
        'log.info("call", error=ValueError("bad key sk-0a1b2c3d4e5f"))',
        'log.info("call %s", "sk-0a1b2c3d4e5f")',
        'library.error("call %s", "sk-0a1b2c3d4e5f")',
        'library.error({"key": "sk-0a1b2c3d4e5f"})',
    ],
)
@pytest.mark.parametrize("form", ["json", "console"])
def test_a_key_is_masked_wherever_it_stands(body: str, form: str) -> None:
    (line,) = _logged(body, form=form)

    assert "0a1b2c3d4e5f" not in line
    assert "sk-…" in line or "Bearer …" in line


RAISES = """
try:
    raise ValueError("no account for sk-0a1b2c3d4e5f")
except ValueError:
    {call}
"""


@pytest.mark.parametrize("call", ['log.exception("failed")', 'library.exception("failed")'])
def test_an_exception_stands_in_its_line_masked(call: str) -> None:
    (line,) = _logged(RAISES.format(call=call))

    entry = json.loads(line)
    assert entry["level"] == "error"
    assert entry["exception"].startswith("Traceback")
    assert entry["exception"].endswith("ValueError: no account for sk-…")


def test_people_read_an_exception_over_several_lines() -> None:
    lines = _logged(RAISES.format(call='log.exception("failed")'), form="console")

    assert "failed" in lines[0]
    assert lines[-1] == "  ValueError: no account for sk-…"


@pytest.mark.parametrize("form", ["json", "console"])
def test_what_is_below_the_level_is_not_written(form: str) -> None:
    body = 'log.info("quiet"); library.info("quiet"); log.warning("loud")'

    (line,) = _logged(body, level="WARNING", form=form)

    assert "loud" in line


def test_a_value_that_json_does_not_know_is_written_as_text() -> None:
    (line,) = _logged('log.info("x", a={1, }, b=object, c=float("nan"), d=b"bytes")')

    entry = json.loads(line)
    assert entry["a"] == [1]
    assert entry["b"] == "<class 'object'>"
    assert entry["c"] is None
