"""A process that ends tells so first, finishes what it can, and refuses the rest in time."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from service_kit.drain import Drain
from support.kit_app import AUTHORIZED, KEY
from support.kit_process import TESTS, kit_process
from support.processes import ServiceProcess

LONG = "300"


def client(process: ServiceProcess) -> httpx.Client:
    return httpx.Client(base_url=process.url, headers=AUTHORIZED, timeout=60)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_serves_on_and_says_that_it_is_not_ready(tmp_path: Path, workers: str) -> None:
    """So that a load balancer can notice, and no request is lost; then a second signal ends it."""
    with (
        kit_process(
            tmp_path, SHUTDOWN_DELAY_SECONDS=LONG, WORKERS=workers, RATE_LIMIT_ENABLED="false"
        ) as process,
        client(process) as http,
    ):
        assert http.get("/ready").status_code == 200
        process.process.send_signal(signal.SIGTERM)
        for number in range(int(workers)):
            process.wait_for_log('"draining"', times=number + 1)

        told = http.get("/ready")
        assert (told.status_code, told.json()["code"]) == (503, "server_is_overloaded")
        assert told.headers["retry-after"] == "1"
        served = http.get("/v1/whoami")
        assert served.status_code == 200
        assert served.headers["connection"] == "close"
        assert http.get("/health").status_code == 200
        serving = {process.process.pid}
        while workers == "2" and len(serving) < 3:
            serving.add(http.get("/v1/pid").json()["pid"])
        for pid in serving:
            os.kill(pid, signal.SIGTERM)
        assert process.wait() == 0


def test_a_request_that_takes_too_long_is_told_to_go_elsewhere(tmp_path: Path) -> None:
    with (
        kit_process(tmp_path, DRAIN_SECONDS="1") as process,
        client(process) as http,
        ThreadPoolExecutor() as threads,
    ):
        asked = threads.submit(http.get, "/v1/silence")
        process.wait_for_log('"silent"')
        process.process.send_signal(signal.SIGTERM)
        answer = asked.result()
        assert (answer.status_code, answer.json()["code"]) == (503, "server_is_overloaded")
        assert answer.headers["x-request-id"] == answer.json()["request_id"]
        assert process.wait() == 0
    assert not [line for line in process.lines if "Traceback" in line]


async def test_what_runs_is_stopped_once_and_what_has_ended_is_not() -> None:
    drain = Drain()
    stopped: list[str] = []
    with drain.stopping(lambda: stopped.append("ended before")):
        pass
    with drain.stopping(lambda: stopped.append("runs")):
        drain.finish()
        drain.finish()
        with drain.stopping(lambda: stopped.append("came too late")):
            assert stopped == ["runs", "came too late"]
    assert stopped == ["runs", "came too late"]


async def test_the_server_hears_of_the_signal_after_the_delay() -> None:
    ended = asyncio.Event()
    drain = Drain(delay_seconds=0.01, drain_seconds=600)
    drain.begin(ended.set)
    assert drain.begun
    await ended.wait()


def test_the_socket_of_the_program_that_started_it_is_taken_over(tmp_path: Path) -> None:
    """As systemd's socket units hand it over; it stays open from one process to the next."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def hand_over() -> None:
            os.dup2(listener.fileno(), 3, inheritable=True)

        def started() -> "subprocess.Popen[bytes]":
            # `exec` keeps the process id that LISTEN_PID has to name.
            return subprocess.Popen(
                [
                    "/bin/sh",
                    "-c",
                    f'LISTEN_PID=$$ LISTEN_FDS=1 exec "{sys.executable}" -m support.kit_app',
                ],
                env={"PYTHONPATH": str(TESTS), "API_KEYS": KEY, "DATA_DIR": str(tmp_path)},
                stdout=subprocess.DEVNULL,
                pass_fds=(3,),
                preexec_fn=hand_over,  # noqa: PLW1509 - the test has no other threads here
            )

        with started() as process:
            # It waits in the socket's queue until the process takes it.
            assert httpx.get(f"{url}/health", timeout=60).status_code == 200
            process.terminate()
            assert process.wait(60) == 0
        with started() as process:
            assert httpx.get(f"{url}/health", timeout=60).status_code == 200
            process.terminate()
            assert process.wait(60) == 0
