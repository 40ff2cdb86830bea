"""`ai-proxy-service prices`: what it writes, and its exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ai_proxy_service.main import main
from support.prices import catalog_file

COMMAND = Path(sys.executable).parent / "ai-proxy-service"
TIMEOUT_SECONDS = 120


class Ended(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    stdout: str
    stderr: str


class Terminal:
    """Where the command is run: a folder, with no settings but those that are named."""

    def __init__(
        self, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
    ) -> None:
        self.folder = folder
        self._capsys = capsys
        self._patch = patch

    def run(self, *arguments: str, **settings: str) -> Ended:
        """Run the command to its end, within this process: it starts in no time."""
        with self._patch.context() as patch:
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["ai-proxy-service", *arguments])
            for name in os.environ.keys() & {"PRICE_CATALOG_PATH", "PRICE_MARKUP", "MODEL_ALIASES"}:
                patch.delenv(name)
            for name, value in settings.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ending:
                main()
        written = self._capsys.readouterr()
        if isinstance(ending.value.code, str):
            # Python writes such a text to standard error, and ends with 1.
            return Ended(1, written.out, written.err + ending.value.code)
        return Ended(int(ending.value.code or 0), written.out, written.err)


@pytest.fixture
def terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Terminal:
    return Terminal(tmp_path, capsys, monkeypatch)


def test_the_prices_in_force_are_shown_with_their_mark_up(terminal: Terminal) -> None:
    """No other setting is needed: who looks up prices has no key of Gemini's."""
    ended = terminal.run(
        *("prices", "--model", "flash"),
        MODEL_ALIASES="flash=gemini-2.5-flash",
        PRICE_MARKUP="1.1",
    )

    assert ended.code == 0, ended.stderr
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert lines[0][:4] == ["Prices", "2026-11-24,", "effective", "2026-11-24,"]
    assert "mark-up of 1.1" in ended.stdout
    # 0.30, 0.03, 1.00, 0.10 and 2.50 USD per million; 0.035 and 0.025 USD for what is looked up
    assert [
        *("gemini-2.5-flash", "standard", "0.33", "0.033", "1.1", "0.11", "2.75"),
        *("0.0385/prompt", "0.0275/prompt"),
    ] in lines
    assert ["gemini-2.5-flash", "flex", "0.165", "0.033", "0.55", "0.11", "1.375"] in lines


def test_scripts_get_all_prices_as_one_document(terminal: Terminal) -> None:
    path = catalog_file(
        terminal.folder,
        rates=[
            {"input": 333_333, "output": 400, "cached_input": 100},
            {"input": 666_666, "output": 800, "above_prompt_tokens": 10},
        ],
        search_query=14_000_000_000,
        retired=True,
    )

    ended = terminal.run("prices", "--json", PRICE_CATALOG_PATH=str(path))

    document: dict[str, Any] = json.loads(ended.stdout)
    assert document == {
        "version": "test",
        "effective": "2026-01-01",
        "source": "test",
        "file": str(path),
        "markup": "1",
        "currency": "USD",
        "unit": "USD per million tokens; lookups: USD each",
        "models": {
            "m": {
                "kind": "chat",
                "retired": True,
                "rates": [
                    {
                        "service_tier": "standard",
                        "above_prompt_tokens": 0,
                        "input": "0.333333",
                        "output": "0.0004",
                        "cached_input": "0.0001",
                    },
                    {
                        "service_tier": "standard",
                        "above_prompt_tokens": 10,
                        "input": "0.666666",
                        "output": "0.0008",
                    },
                ],
                "search_query": "0.014",
                "search_unit": "query",
            }
        },
    }


def test_a_file_can_be_checked_before_it_is_put_in_place(terminal: Terminal) -> None:
    path = catalog_file(terminal.folder)

    ended = terminal.run("prices", "--check", str(path))

    assert ended.code == 0
    assert ended.stdout == f"{path} can be used: version test, 1 models.\n"


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "said"),
    [
        (["prices", "--check", "bad.json"], {}, 1, "m: input = 1 pico-USD per token"),
        (["prices", "--check", "nowhere.json"], {}, 1, "nowhere.json: No such file"),
        (["prices"], {"PRICE_CATALOG_PATH": "bad.json"}, 1, "The price catalogue can't be used"),
        (["prices"], {"PRICE_MARKUP": "much"}, 1, "PRICE_MARKUP"),
        (["prices", "--model", "gpt-9"], {}, 1, "has no model 'gpt-9'"),
        (["prices", "--currency", "EUR"], {}, 2, "No such option"),
        (["pricelist"], {}, 2, "No such command"),
    ],
)
def test_what_cant_be_done_is_said_in_a_line_and_by_the_exit_code(
    terminal: Terminal, arguments: list[str], settings: dict[str, str], code: int, said: str
) -> None:
    bad = catalog_file(terminal.folder, rates=[{"input": 1, "output": 400}])
    bad.rename(terminal.folder / "bad.json")

    ended = terminal.run(*arguments, **settings)

    assert (ended.code, ended.stdout) == (code, "")
    assert said in ended.stderr


def test_a_bad_file_ends_the_process_with_a_text_and_no_traceback(tmp_path: Path) -> None:
    path = catalog_file(tmp_path, rates=[])

    ended = subprocess.run(
        [COMMAND, "prices", "--check", path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "Error: The price catalogue can't be used: m: its first rates must hold from 0 prompt "
        "tokens on\n"
    )


def test_serving_loads_nothing_that_only_commands_need() -> None:
    """Without arguments the command serves, and starts as fast as it can."""
    program = (
        "import sys, ai_proxy_service.main; "
        "print([name for name in ('typer', 'ai_proxy_service.cli') if name in sys.modules])"
    )

    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=True,
    )

    assert ended.stdout == "[]\n"
