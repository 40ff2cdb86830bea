"""Guide and README, followed word by word in an empty folder; no command in them is untried.

A shell block of the two documents is tried in one of four ways:
- `<!-- tested: curl jq -->` before it: `test_deployment_files.py` runs it by itself;
- `<!-- followed -->` before it: it is run here, in the document's order;
- `COVERED` names the test that runs the command;
- `<!-- needs: Docker -->` before it, or `# needs Docker` behind a command: nobody can run it here.
"""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from pathlib import Path

import httpx
import pytest

from support.components import skip_or_fail
from support.followed_guide import Reader
from support.guide import FOLLOWED, NEEDS, ROOT, TESTED, Block, Command, blocks
from support.postgres_cluster import PostgresServer, postgres_server
from support.processes import ServiceProcess

GUIDE, README = "DEPLOYMENT_GUIDE.md", "README.md"
DOCUMENTS = (GUIDE, README)
# What a block may need that is not there where the tests run.
NOT_HERE = {"Docker", "a Kubernetes cluster", "root and systemd"}
_HERE = "tests/system/test_guide_commands.py"
# The beginning of a command → what runs it: `file::test`, or `file` with a text in it.
COVERED = {
    r"make run\b": f"{_HERE}::test_the_readme_can_be_followed_word_by_word",
    r"make cluster\b": (
        "tests/cluster/test_cluster.py::test_a_rolling_restart_loses_no_request_and_no_charge"
    ),
    r"make test\b": ".ci/run::make test",
    r"psql .* -f deploy/reporting_role\.sql": (
        "tests/faults/test_reporting_role.py::test_it_reads_balances_and_statements"
    ),
    r"TARGET_DATABASE_URL=\S+ credits migrate-to": (
        "tests/credits/test_migrate_to.py::test_everything_is_moved_and_the_service_goes_on_there"
    ),
    r"REPLICATION_URL=.*base_backup\.sh": (
        "tests/faults/test_backup.py::test_a_ledger_is_restored_to_a_chosen_moment"
    ),
    r"PG_BIN=[^$]*restore_to_time\.sh": (
        "tests/faults/test_backup.py::test_a_ledger_is_restored_to_a_chosen_moment"
    ),
    r"credits reconcile --usage": (
        "tests/system/test_reconcile.py::test_log_ledger_and_bill_agree_until_a_record_is_lost"
    ),
}
_INSTALLED = "/opt/prepaid-ai-gateway"
_SETTINGS = "/etc/prepaid-ai-gateway"
_UP = "Ctrl-C stops all of it."
# What is not copied to the empty folder: a clone would not have it either.
_NOT_IN_A_CLONE = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "node_modules", ".environments",
    "*.egg-info", ".env", "dist",
)  # fmt: skip


def commands() -> list[Command]:
    """Return all commands of the two documents."""
    return [command for name in DOCUMENTS for block in blocks(name) for command in block.commands]


def covering(command: Command) -> list[str]:
    """Return the patterns of `COVERED` that a command has."""
    return [each for each in COVERED if re.match(each, command.text, re.DOTALL)]


# --- every command is accounted for -----------------------------------------------------------


def test_no_command_of_the_documents_is_untried() -> None:
    untried = [
        f"{command.place}: nothing runs `{command.text}`. Put `<!-- tested: PROGRAMS -->` or "
        "`<!-- followed -->` before its block, or name the test that runs it in COVERED, or say "
        "`<!-- needs: … -->` what is not here"
        for command in commands()
        if not command.mark and not covering(command)
    ]

    assert len(commands()) > 70
    assert untried == []


def test_what_a_command_needs_is_something_that_tests_do_not_have() -> None:
    needs = {command.place: command.needs for command in commands() if command.mark == NEEDS}

    assert set(needs.values()) == NOT_HERE
    assert all(command.needs in NOT_HERE for command in commands() if command.mark == NEEDS)


@pytest.mark.parametrize("pattern", COVERED)
def test_the_named_test_exists_and_the_command_too(pattern: str) -> None:
    path, _, name = COVERED[pattern].partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")

    assert re.search(rf"^(async )?def {name}\(|^{name}$", text, re.MULTILINE), COVERED[pattern]
    assert any(pattern in covering(command) for command in commands())


def test_marks_are_read_from_the_lines_before_a_block() -> None:
    marked = [block for name in DOCUMENTS for block in blocks(name) if block.mark]
    source = "".join((ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS)

    assert len(marked) == len(
        re.findall(r"^<!-- (?:tested|followed|needs)\b", source, re.MULTILINE)
    )


# --- the documents, followed ------------------------------------------------------------------


def marked(document: str, mark: str) -> list[Block]:
    return [block for block in blocks(document) if block.mark == mark]


def under(heading: str) -> list[Block]:
    """Return the guide's blocks under a heading that are followed."""
    found = [block for block in marked(GUIDE, FOLLOWED) if block.heading == heading]
    assert found, heading
    return found


def need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        skip_or_fail(f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with what a clone has, in a repository of its own."""
    need("git", "curl", "jq", "make")
    folder = tmp_path_factory.mktemp("reader") / "clone"
    shutil.copytree(ROOT, folder, ignore=_NOT_IN_A_CLONE)
    named = ["-c", "user.name=reader", "-c", "user.email=reader@company.com"]
    for step in (["init", "--quiet"], ["add", "--all"], [*named, "commit", "--quiet", "-m", "all"]):
        subprocess.run(["git", *step], cwd=folder, check=True, capture_output=True)  # noqa: S607 - the one on the path
    return folder


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    """A PostgreSQL of the reader's own."""
    with postgres_server() as server:
        yield server


def settings_file(name: str, words: dict[str, str]) -> str:
    """Return a settings file of the guide, filled in."""
    text = (ROOT / GUIDE).read_text(encoding="utf-8").partition(f"`{_SETTINGS}/{name}`")[2]
    (block,) = re.findall(r"\A.*?```ini\n(.*?)```", text, re.DOTALL)
    for word, instead in words.items():
        assert isinstance(block, str)
        block = block.replace(word, instead)
    assert "<" not in block
    return str(block)


def test_the_guide_can_be_followed_word_by_word(
    clone: Path, database: PostgresServer, tmp_path: Path
) -> None:
    """Install, make the database, write the settings, start, and use every tested command."""
    reader = Reader(
        clone,
        {"PGHOST": str(database.folder), "PGPORT": str(database.port), "PGUSER": "postgres"},
    )
    reader.words = {
        _INSTALLED: str(tmp_path / "opt"),
        _SETTINGS: str(tmp_path / "etc"),
        # Half of the time, and what is not compiled now is when it is imported.
        "--compile-bytecode ": "",
    }
    keys = {f"<key {number}>": secrets.token_hex(24) for number in (1, 2, 3)}
    password = secrets.token_hex(24)
    (tmp_path / "etc").mkdir()

    reader.follow(under("1. Install"))
    reader.follow(under("2. Make the database"), typed_in=f"{password}\n{password}\n")
    with ExitStack() as running:
        simulator = running.enter_context(ServiceProcess("gemini-simulator", {}))
        words = {**keys, "<password>": password, ":5432/": f":{database.port}/"}
        (tmp_path / "etc" / "credits.env").write_text(settings_file("credits.env", words))
        (start,) = under("4. Start")
        start_credits, start_proxy = start.commands
        reader.followed.add((start.document, start.line))
        ledger = running.enter_context(started(reader, start_credits, tmp_path / "credits"))
        words |= {"http://127.0.0.1:8001": ledger.url, "<Google's key>": "AIza-any-key-00000000"}
        # Google is the simulator.
        gemini = f"GEMINI_BASE_URL={simulator.url}\n"
        (tmp_path / "etc" / "proxy.env").write_text(settings_file("proxy.env", words) + gemini)
        proxy = running.enter_context(started(reader, start_proxy, tmp_path / "proxy"))
        reader.words |= {
            "http://127.0.0.1:8002": proxy.url,
            "http://127.0.0.1:8001": ledger.url,
            "CLIENT_KEY=…": f"CLIENT_KEY={keys['<key 3>']}",
            "SERVICE_KEY=…": f"SERVICE_KEY={keys['<key 1>']}",
            "ADMIN_KEY=…": f"ADMIN_KEY={keys['<key 2>']}",
        }
        reader.follow(under("5. Check"))
        ready, completion, *others = [
            block for block in marked(GUIDE, TESTED) if set(block.value.split()) <= {"curl", "jq"}
        ]
        first_credit = next(block for block in others if "payment-1041" in block.text)
        reader.follow([ready, first_credit, completion])
        reader.follow(block for block in others if block is not first_credit)

    assert "data: [DONE]" in reader.output
    followed = {(block.document, block.line) for block in marked(GUIDE, FOLLOWED)}
    assert followed <= reader.followed


@contextmanager
def started(reader: Reader, command: Command, folder: Path) -> Iterator[ServiceProcess]:
    """Run a command that does not end, as in a shell of its own in a folder of its own."""
    folder.mkdir()
    typed = reader.as_typed(command.text)
    with ServiceProcess("/bin/bash", {"PORT": "0"}, "-euc", typed, cwd=folder) as process:
        yield process


@pytest.mark.skipif(
    os.environ.get("FOLLOW_README") != "1",
    reason="make test-long follows it; every run has its commands in test_make_run.py",
)
def test_the_readme_can_be_followed_word_by_word(clone: Path) -> None:
    """`make run`, and in another shell all that the README says of it."""
    # The environment is there already; the copy's own stamp is newer than what it is made from.
    (clone / ".venv").symlink_to(ROOT / ".venv")
    for made_from in (clone / "requirements.lock", *clone.glob("services/*/pyproject.toml")):
        os.utime(made_from, (0, 0))
    settings = dict.fromkeys(("PROXY_PORT", "CREDITS_PORT", "SIMULATOR_PORT"), "0")
    bin_folder = clone / ".venv" / "bin"
    environment = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "GEMINI_API_KEY": "", **settings}
    with subprocess.Popen(
        ["make", "run"],  # noqa: S607 - the reader's own make
        cwd=clone,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as make:
        assert make.stdout is not None
        try:
            printed = "".join(takewhile(lambda line: _UP not in line, make.stdout))
            found = re.findall(r"curl (http://[\d.:]+)(/metrics|/api/v1/topup)", printed)
            urls = {path: url for url, path in found}
            use_as_the_readme_says(clone, urls, environment)
        finally:
            os.killpg(make.pid, signal.SIGINT)
            make.stdout.read()


def use_as_the_readme_says(clone: Path, urls: dict[str, str], environment: dict[str, str]) -> None:
    proxy, ledger = urls["/metrics"], urls["/api/v1/topup"]
    keys = json.loads((clone / "data" / "local-keys.json").read_text())
    reader = Reader(
        clone,
        {
            "PATH": environment["PATH"],
            "CREDITS_KEY": keys["service"],
            "CREDITS_API_KEY": keys["admin"],
            "CREDITS_SERVICE_URL": ledger,
            "DATA_DIR": str(clone / "data"),
        },
    )
    reader.words = {
        "http://127.0.0.1:8002": proxy,
        "http://127.0.0.1:8001": ledger,
        "sk-…": keys["demo"],
        # Nobody sits here to say yes.
        "keys revoke KEY_ID": "keys revoke KEY_ID --yes",
        # So that a refusal is one.
        "curl ": "curl -sS --fail-with-body ",
    }
    reader.learned = {
        "chatcmpl-…": r"chatcmpl-\w+",
        "TRANSACTION_ID": r'"transaction_id": ?"([^"]+)"',
        "KEY_ID": r"key_id\W+([\w-]+)",
    }
    for block in marked(README, FOLLOWED):
        for command in block.commands:
            if not covering(command):
                reader.run(command)

    assert "data: [DONE]" in reader.output
    assert (clone / "usage.jsonl").read_text().count("\n") == 2
    left = httpx.get(
        f"{ledger}/api/v1/accounts/ann",
        headers={"authorization": f"Bearer {keys['service']}"},
        timeout=30,
    ).json()
    assert (left["balance"], left["status"]) == ("25", "open")
