"""`make run`: everything from nothing, a working key, and nothing left behind."""

import json
import math
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from importlib import resources
from itertools import takewhile
from pathlib import Path

import httpx
import openai
import pytest

from support.components import skip_or_fail
from support.processes import ServiceProcess

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "deploy" / "local" / "run.py"
FREE_PORTS = {"PROXY_PORT": "0", "CREDITS_PORT": "0", "SIMULATOR_PORT": "0"}
MODEL = "gemini-2.5-flash"
UP = "Ctrl-C stops all of it."
TIMEOUT_SECONDS = 60
PROGRAMS = ["gemini-simulator", "credits-service", "ai-proxy-service"]


def processes_on(folder: Path) -> dict[str, int]:
    """Return the programs that run on a folder's data, with their process ids."""
    marker = f"DATA_DIR={folder / 'data'}".encode()
    found: dict[str, int] = {}
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (proc / "environ").read_bytes().split(b"\0"):
                command = (proc / "cmdline").read_bytes().split(b"\0")
                found[Path(os.fsdecode(command[1])).name] = int(proc.name)
        except OSError:
            continue
    return found


class Run:
    """A local run in a folder of its own."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.launcher = ServiceProcess("python", {**FREE_PORTS, **env}, str(LAUNCHER), str(folder))

    @property
    def output(self) -> str:
        return "\n".join(self.launcher.lines)

    def wait_until_up(self) -> None:
        self.launcher.wait_for_log(UP, TIMEOUT_SECONDS)

    def printed(self, name: str) -> str:
        """Return the value of a `NAME=value` that stands alone on its line."""
        (value,) = re.findall(rf"^{name}=(\S+)$", self.output, re.MULTILINE)
        return str(value)

    def commands(self) -> list[str]:
        """Return the blocks that are meant to be pasted into a shell."""
        blocks = self.output.split("\n\n")
        return [block for block in blocks if re.match(r"curl |OPENAI_BASE_URL=\S+ ", block)]

    def balance_usd(self) -> Decimal:
        (command,) = [text for text in self.commands() if "/accounts/" in text]
        url, key = re.findall(r"http\S+|(?<=Bearer )[^\"]+", command)
        answer = httpx.get(url, headers={"authorization": f"Bearer {key}"}, timeout=30)
        return Decimal(answer.raise_for_status().json()["balance"])

    def processes(self) -> dict[str, int]:
        return processes_on(self.folder)

    def wait_for_end(self) -> int:
        code = self.launcher.process.wait(TIMEOUT_SECONDS)
        self.launcher.stop()
        return code


@contextmanager
def local_run(folder: Path, **env: str) -> Iterator[Run]:
    run = Run(folder, env)
    try:
        yield run
    finally:
        run.launcher.stop()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Everything up, for the tests that only use it."""
    with local_run(tmp_path_factory.mktemp("run")) as started:
        started.wait_until_up()
        yield started


def _price_usd(usage: openai.types.CompletionUsage) -> Decimal:
    """Price a usage by the proxy's catalogue: exact, and rounded up once to a nano-USD."""
    catalog = json.loads((resources.files("ai_proxy_service.data") / "prices.json").read_text())
    (rates,) = catalog["models"][MODEL]["rates"]
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens if details else 0) or 0
    pico = (
        (usage.prompt_tokens - cached) * rates["input"]
        + cached * rates["cached_input"]
        + usage.completion_tokens * rates["output"]
    )
    return Decimal(math.ceil(Decimal(pico) / 1000)).scaleb(-9)


def test_a_streamed_completion_takes_exactly_its_price(run: Run) -> None:
    before = run.balance_usd()
    with openai.OpenAI(
        base_url=run.printed("OPENAI_BASE_URL"),
        api_key=run.printed("OPENAI_API_KEY"),
        max_retries=0,
    ) as client:
        chunks = list(
            client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "Tell me of the sea."}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    after = run.balance_usd()

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    usage = chunks[-1].usage
    assert text
    assert usage is not None
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 0
    assert before - after == _price_usd(usage) > 0


def test_the_printed_commands_work_as_they_are(run: Run) -> None:
    if shutil.which("curl") is None:
        skip_or_fail("curl is not installed")
    outputs = [
        subprocess.run(
            # Whichever bash the reader's own shell would find.
            ["bash", "-euc", command.replace("curl ", "curl -sS --fail-with-body ", 1)],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=True,
        ).stdout
        for command in run.commands()
    ]

    streamed, spoken, account, topped_up, metrics = outputs
    assert streamed.count("data: ") > 2
    assert streamed.rstrip().endswith("data: [DONE]")
    assert spoken.strip()
    assert json.loads(account)["user_id"] == "demo"
    assert Decimal(json.loads(topped_up)["amount"]) == 1
    assert json.loads(metrics)["requests"]["successful"] >= 2


def test_without_a_gemini_key_it_says_that_a_simulator_answers(run: Run) -> None:
    assert "SIMULATOR" in run.output
    assert sorted(run.processes()) == sorted(PROGRAMS)


def test_the_keys_are_readable_by_their_owner_only(run: Run) -> None:
    (file,) = (run.folder / "data").glob("*keys*")

    assert file.stat().st_mode & 0o777 == 0o600
    assert run.printed("OPENAI_API_KEY") in file.read_text()


def test_no_key_stands_in_a_log_or_an_argument_list(run: Run) -> None:
    keys = json.loads((run.folder / "data" / "local-keys.json").read_text())
    logs = list((run.folder / "data" / "logs").glob("*.log"))

    assert sorted(log.stem for log in logs) == sorted(PROGRAMS)
    for log in logs:
        assert str(log) in run.output
        assert not [key for key in keys.values() if key in log.read_text()]
    for process_id in [run.launcher.process.pid, *run.processes().values()]:
        arguments = Path(f"/proc/{process_id}/cmdline").read_text()
        assert arguments
        assert not [key for key in keys.values() if key in arguments]


def test_a_second_run_on_the_same_data_is_refused(run: Run) -> None:
    with local_run(run.folder) as second:
        code = second.wait_for_end()

    assert code == 1
    assert "Another `make run` uses" in second.output


def test_ctrl_c_stops_all_in_order_and_a_new_run_finds_everything_again(tmp_path: Path) -> None:
    """The demo credit is added once: what was spent stays spent."""
    with local_run(tmp_path) as first:
        first.wait_until_up()
        key, credit = first.printed("OPENAI_API_KEY"), first.balance_usd()
        httpx.post(
            f"{first.printed('OPENAI_BASE_URL')}/chat/completions",
            headers={"authorization": f"Bearer {key}"},
            json={"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]},
            timeout=30,
        ).raise_for_status()
        left = first.balance_usd()
        first.launcher.process.send_signal(signal.SIGINT)
        code = first.wait_for_end()

    assert code == 0
    assert re.findall(r"Stopping (\S+)", first.output) == PROGRAMS[::-1]
    assert first.processes() == {}
    assert credit == Decimal("5.00") > left

    with local_run(tmp_path) as second:
        second.wait_until_up()

        assert second.printed("OPENAI_API_KEY") == key
        assert second.balance_usd() == left


@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_while_it_starts_leaves_nothing(tmp_path: Path, program: str) -> None:
    with local_run(tmp_path) as run:
        run.launcher.wait_for_log(f"Starting {program}", TIMEOUT_SECONDS)
        run.launcher.process.send_signal(signal.SIGINT)
        code = run.wait_for_end()

    assert code == 0
    assert UP not in run.output
    assert run.processes() == {}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_dies_ends_the_run_and_is_named(tmp_path: Path, program: str) -> None:
    with local_run(tmp_path) as run:
        run.wait_until_up()
        os.kill(run.processes()[program], signal.SIGKILL)
        code = run.wait_for_end()

    assert code == 1
    assert f"{program} was ended by SIGKILL" in run.output
    assert f"The last it wrote ({tmp_path / 'data' / 'logs' / program}.log):" in run.output
    assert run.processes() == {}


def test_nothing_outlives_a_launcher_that_is_killed(tmp_path: Path) -> None:
    with local_run(tmp_path) as run:
        run.wait_until_up()
        watched = [os.pidfd_open(pid) for pid in run.processes().values()]
        run.launcher.kill()
        ended = [select.select([fd], [], [], TIMEOUT_SECONDS)[0] for fd in watched]
        for fd in watched:
            os.close(fd)

    assert len(watched) == 3
    assert all(ended)
    assert run.processes() == {}


@pytest.mark.parametrize("name", sorted(FREE_PORTS))
def test_a_port_that_is_taken_is_named_before_anything_starts(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with local_run(tmp_path, **{name: str(port)}) as run:
            code = run.wait_for_end()

    assert code == 1
    assert f"Port {port} can't be opened" in run.output
    assert f"{name}=" in run.output
    assert "Starting" not in run.output


def test_with_a_gemini_key_no_simulator_is_started(tmp_path: Path) -> None:
    """Its port does not matter then either."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        env = {"GEMINI_API_KEY": "real-key", "SIMULATOR_PORT": str(holder.getsockname()[1])}
        with local_run(tmp_path, **env) as run:
            run.wait_until_up()

            assert sorted(run.processes()) == ["ai-proxy-service", "credits-service"]
            assert "SIMULATOR" not in run.output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('PROXY_PORT=0\nGEMINI_API_KEY="open\n', ".env, line 2"),
        ("PROXY_PORT 8002\n", ".env, line 1"),
        ("CREDITS_PORT=many\n", "CREDITS_PORT=many is not a port"),
        ("CREDITS_PORT=70000\n", "CREDITS_PORT=70000 is not a port"),
        ("PROXY_PORT=9000\nCREDITS_PORT=9000\n", "a port of its own"),
    ],
)
def test_a_broken_dotenv_is_explained_before_anything_starts(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / ".env").write_text(text)
    launcher = subprocess.run(
        [sys.executable, str(LAUNCHER), str(tmp_path)],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )

    assert launcher.returncode == 1
    assert says in launcher.stderr
    assert "Traceback" not in launcher.stderr
    assert launcher.stdout == ""


def test_a_value_that_a_service_refuses_is_explained_in_its_words(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PRICE_MARKUP=-1\n")

    with local_run(tmp_path) as run:
        code = run.wait_for_end()

    assert code == 1
    assert "ai-proxy-service ended with code 1" in run.output
    assert "PRICE_MARKUP: " in run.output
    assert run.processes() == {}


def test_settings_of_another_deployment_do_not_change_a_local_run(tmp_path: Path) -> None:
    """A `.env` that was made for production must not send demo credit to its ledger."""
    (tmp_path / ".env").write_text(
        "DATABASE_URL=postgresql://user@192.0.2.1:5432/production\n"
        "WORKERS=4\nAUTH_ENABLED=false\nAPI_KEYS=prod:sk-0f9e8d7c6b5a4938271605\n"
        "LOG_LEVEL=ERROR\nLOG_FORMAT=console\nHOST=0.0.0.0\nPORT=1\n"
    )

    with local_run(tmp_path) as run:
        run.wait_until_up()
        unauthorised = httpx.get(f"{run.printed('OPENAI_BASE_URL')}/models", timeout=30)

        assert (tmp_path / "data" / "ledger.sqlite3").exists()
        assert unauthorised.status_code == 401


@pytest.mark.parametrize("to_the_terminals_group", [True, False], ids=["ctrl-c", "sigterm"])
def test_make_run_ends_with_all_it_started(tmp_path: Path, to_the_terminals_group: bool) -> None:
    """A terminal's Ctrl-C reaches make and the launcher at once; SIGTERM reaches make alone."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    env = {
        **FREE_PORTS,
        "PATH": os.environ["PATH"],
        "DATA_DIR": str(tmp_path / "data"),
        "GEMINI_API_KEY": "",
    }
    with subprocess.Popen(
        # The environment is ready, or this test would not run: make must not renew it now.
        ["make", "--old-file=.venv/.ready", "run"],  # noqa: S607 - the reader's own make
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as make:
        assert make.stdout is not None
        before = list(takewhile(lambda line: UP not in line, make.stdout))
        if to_the_terminals_group:
            os.killpg(make.pid, signal.SIGINT)
        else:
            make.terminate()
        after = make.stdout.readlines()

    assert any("OPENAI_API_KEY=" in line for line in before), before
    assert "Everything has been stopped.\n" in after
    assert processes_on(tmp_path) == {}
