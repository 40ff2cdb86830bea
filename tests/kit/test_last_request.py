"""A request that is on its way while its server ends: it is served, and is the last one."""

import signal
from pathlib import Path

import httpx
import pytest

from support.kit_app import KEY
from support.kit_process import kit_process
from support.raw_connection import raw_connection

REQUEST = f"GET /v1/whoami HTTP/1.1\r\nHost: kit\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()


@pytest.mark.parametrize("sent_before", [0, 30], ids=["nothing", "a part"])
def test_a_connection_that_was_taken_is_served_once(tmp_path: Path, sent_before: int) -> None:
    """Its client can't tell a connection that is closed now from a request that was served."""
    with kit_process(tmp_path) as process, raw_connection(process.url) as connection:
        connection.send(REQUEST[:sent_before])
        # Connections are taken in their order: once this one is served, that one was taken.
        assert httpx.get(f"{process.url}/health", timeout=60).is_success
        process.process.send_signal(signal.SIGTERM)
        process.wait_for_log("Waiting for connections to close")
        connection.send(REQUEST[sent_before:])

        answer = connection.answer()
        assert (answer.status, answer.json()) == (200, {"name": "tester"})
        assert answer.headers["connection"] == "close"
        assert process.wait() == 0


def test_a_connection_on_which_nothing_comes_does_not_keep_the_server(tmp_path: Path) -> None:
    with kit_process(tmp_path) as process, raw_connection(process.url) as connection:
        assert httpx.get(f"{process.url}/health", timeout=60).is_success
        process.process.send_signal(signal.SIGTERM)
        assert connection.rest() == b""
        assert process.wait() == 0
