"""A service's process: how it starts, what it writes, how it ends."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.typing import EventDict

from service_kit.server import bind_failure
from support.kit_app import AUTHORIZED, KEY
from support.processes import ServiceProcess

TESTS = Path(__file__).resolve().parents[1]
STOP_TIMEOUT_SECONDS = 30


def _process(cwd: Path, **settings: str) -> ServiceProcess:
    return ServiceProcess(
        "python",
        {"PYTHONPATH": str(TESTS), "API_KEYS": f"tester:{KEY}", "DATA_DIR": str(cwd), **settings},
        "-m",
        "support.kit_app",
    )


def _lines(process: ServiceProcess, event: str) -> list[EventDict]:
    return [line for line in process.events() if line["event"] == event]


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_ends_it_cleanly(tmp_path: Path, sig: signal.Signals, workers: str) -> None:
    with _process(tmp_path, WORKERS=workers) as process:
        assert httpx.get(f"{process.url}/health", timeout=30).status_code == 200

        process.process.send_signal(sig)
        code = process.process.wait(STOP_TIMEOUT_SECONDS)
        process.stop()

    assert code == 0, process.lines
    assert not [line for line in process.lines if "Traceback" in line]
    assert all(line.startswith("{") for line in process.lines)


def test_port_0_takes_a_free_port_and_says_which(tmp_path: Path) -> None:
    with _process(tmp_path) as process:
        (line,) = _lines(process, "listening")

        assert line["url"] == f"http://127.0.0.1:{line['port']}"
        assert line["port"] > 0


def test_a_running_response_is_finished_before_the_end(tmp_path: Path) -> None:
    with _process(tmp_path) as process, httpx.Client(headers=AUTHORIZED, timeout=30) as client:
        with client.stream("GET", f"{process.url}/v1/stream") as response:
            chunks = response.iter_text()
            first = next(chunks)
            for word in ("second", ""):
                client.post(f"{process.url}/v1/stream/next", params={"word": word})
            process.process.terminate()
            rest = list(chunks)
        code = process.stop()

    assert [first, *rest] == ["first", "second"]
    assert code == 0


def _run_until_it_ends(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "support.kit_app"],
        env={"PYTHONPATH": str(TESTS), "API_KEYS": KEY, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_is_explained(workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]

        ended = _run_until_it_ends({"PORT": str(port), "WORKERS": workers})

    assert ended.returncode == 1
    assert f"Port {port} on 127.0.0.1 is already in use" in ended.stderr
    assert "set PORT to another one" in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout


def test_a_port_that_is_bound_but_not_served_yet_is_explained_too() -> None:
    """Two programs that start at the same moment must not both believe they have the port."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        with _process(TESTS, PORT=str(port)):
            with pytest.raises(OSError, match="in use"):
                holder.listen()

            ended = _run_until_it_ends({"PORT": str(port)})

    assert f"Port {port} on 127.0.0.1 is already in use" in ended.stderr


def test_an_address_that_is_not_this_machines_is_explained() -> None:
    ended = _run_until_it_ends({"HOST": "192.0.2.1", "PORT": "0"})

    assert ended.returncode == 1
    assert "Cannot listen on 192.0.2.1:0" in ended.stderr
    assert "Check HOST and PORT" in ended.stderr


def test_a_port_without_permission_is_explained() -> None:
    message = bind_failure("127.0.0.1", 80, PermissionError(13, "Permission denied"))

    assert message == "No permission to open port 80 on 127.0.0.1. Set PORT to one above 1023."


def test_bad_settings_end_the_start_with_their_explanation() -> None:
    ended = _run_until_it_ends({"PORT": "http"})

    assert ended.returncode == 1
    assert ended.stderr.startswith("The settings can't be used:\n  - PORT: ")
    assert ended.stdout == ""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_app_that_can_not_start_ends_the_process(workers: str) -> None:
    """With several workers as well: no supervisor that starts them over and over."""
    program = (
        "from service_kit.server import serve\n"
        "if __name__ == '__main__':\n"
        f"    serve('kit.broken_app:create_app', host='127.0.0.1', port=0, workers={workers})\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 3


def test_workers_show_the_machines_figures(tmp_path: Path) -> None:
    with _process(tmp_path, WORKERS="2", RATE_LIMIT_ENABLED="false") as process:
        served_by: list[int] = []
        while len(set(served_by)) < 2:
            # A connection each: the kernel hands connections to workers, not requests.
            response = httpx.get(f"{process.url}/v1/pid", headers=AUTHORIZED, timeout=30)
            served_by.append(response.json()["pid"])
        figures: dict[str, Any] = httpx.get(f"{process.url}/metrics", timeout=30).json()

    assert figures["by_route"]["/v1/pid"] == len(served_by)


@pytest.mark.parametrize(
    ("trusted", "statuses"), [("127.0.0.1", [200, 200, 429]), ("", [200, 429, 429])]
)
def test_a_forwarded_address_counts_only_from_a_trusted_proxy(
    tmp_path: Path, trusted: str, statuses: list[int]
) -> None:
    with _process(tmp_path, RATE_LIMIT_PER_MINUTE="1", FORWARDED_ALLOW_IPS=trusted) as process:
        answered = [
            httpx.get(
                f"{process.url}/v1/whoami",
                headers={**AUTHORIZED, "x-forwarded-for": address},
                timeout=30,
            ).status_code
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.2")
        ]

    assert answered == statuses


def test_the_log_is_json_with_the_request_id_on_every_line_of_a_request(tmp_path: Path) -> None:
    with _process(tmp_path) as process:
        httpx.get(
            f"{process.url}/v1/items/7?token=hidden",
            headers={**AUTHORIZED, "x-request-id": "trace-9"},
            timeout=30,
        )
        process.wait_for_log('"event":"request"')

    lines = [json.loads(line) for line in process.lines]
    (read,) = [line for line in lines if line["event"] == "item_read"]
    (access,) = [line for line in lines if line["event"] == "request"]
    assert {line["service"] for line in lines} == {"kit"}
    assert all({"timestamp", "level", "logger"} <= line.keys() for line in lines)
    assert read["request_id"] == access["request_id"] == "trace-9"
    assert (access["method"], access["path"], access["status"]) == ("GET", "/v1/items/7", 200)
    assert (access["principal"], access["client"]) == ("tester", "127.0.0.1")
    assert not [line for line in process.lines if "hidden" in line or KEY in line]


def test_an_unexpected_failure_is_logged_with_its_id_and_without_secrets(tmp_path: Path) -> None:
    with _process(tmp_path) as process:
        process.tests_the_mask = True
        httpx.get(
            f"{process.url}/v1/crash",
            headers={**AUTHORIZED, "x-request-id": "trace-10"},
            timeout=30,
        )
        line = json.loads(process.wait_for_log("unhandled_error"))

    assert line["request_id"] == "trace-10"
    assert line["level"] == "error"
    assert "RuntimeError: table accounts refused sk-…" in line["exception"]
    assert "0a1b2c3d" not in "\n".join(process.lines)
