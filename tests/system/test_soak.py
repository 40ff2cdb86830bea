"""The soak's short form: every kind of request, every figure; how they grow, the long one judges.

In seconds neither memory nor connections get steady. The judgement is tried on made-up figures.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from benchmarks.soak_requests import Requests
from benchmarks.soak_watch import (
    DESCRIPTORS,
    FILES,
    PSS,
    RSS,
    SOCKETS,
    THREADS,
    gauges,
    growths,
    left_open,
)

ROOT = Path(__file__).resolve().parents[2]
SECONDS, RATE = 12, 20
WITHIN_SECONDS = 240


def test_a_steady_load_of_all_kinds_leaves_nothing_behind() -> None:
    settings = {"SOAK_SECONDS": str(SECONDS), "SOAK_RATE": str(RATE)}
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak"],
        cwd=ROOT,
        env={**inherited, **settings},
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{SECONDS * RATE} answered" in ended.stdout
    for process in ("proxy", "credits", "simulator"):
        for figure in (RSS, PSS, THREADS, DESCRIPTORS, SOCKETS):
            assert f"| {process}: {figure} |" in ended.stdout
    for kind in ("stream", "client leaves", "repeat", "issued key", "no credit"):
        assert kind in ended.stdout
    assert "gateway_holds_open" in ended.stdout
    assert "ledger_holds_open" in ended.stdout


@pytest.mark.parametrize(
    ("figure", "first", "last", "is_trouble"),
    [
        (RSS, 100.0, 104.9, False),
        (RSS, 100.0, 105.1, True),
        (PSS, 100.0, 200.0, False),
        (FILES, 60.0, 80.0, False),
        (FILES, 60.0, 81.0, True),
        (SOCKETS, 60.0, 90.0, False),
        (THREADS, 1.0, 4.0, False),
        (THREADS, 1.0, 5.0, True),
        ("gateway_holds_open", 0.0, 4.0, True),
        ("gateway_holds_open", 9.0, 0.0, False),
    ],
)
def test_what_grows_is_told_from_what_varies(
    figure: str, first: float, last: float, *, is_trouble: bool
) -> None:
    samples = [{figure: first}] * 20 + [{figure: (first + last) / 2}] * 40 + [{figure: last}] * 20

    (found,) = growths("proxy", samples)

    assert (found.first, found.last) == (first, last)
    assert bool(found.trouble) == is_trouble


def test_connections_that_stay_open_without_a_load_are_told() -> None:
    before = {"proxy": {SOCKETS: 5.0}, "credits": {SOCKETS: 4.0}}
    after = {"proxy": {SOCKETS: 8.0}, "credits": {SOCKETS: 8.0}}

    assert left_open(before, after) == ["credits: 8 connections without a load, 4 before it"]


def test_few_samples_say_nothing() -> None:
    assert growths("proxy", [{RSS: 1.0}] * 10) == []


def test_gauges_are_added_up_over_their_labels() -> None:
    text = (
        "# TYPE ledger_holds_open gauge\n"
        'ledger_holds_open{pid="1"} 2.0\nledger_holds_open{pid="2"} 3.0\n'
        "ledger_holds_open_of_others 9.0\n"
    )

    assert gauges(text) == {"ledger_holds_open": 5.0}


def test_answers_that_are_not_as_they_must_be_are_faults() -> None:
    async def fail(_request: web.Request) -> web.Response:
        return web.json_response({"error": {}}, status=500)

    async def send() -> Requests:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", fail)
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            requests = Requests(session, str(server.make_url("")).rstrip("/"), "sk-any")
            for _ in range(60):
                await requests.send_any()
        return requests

    requests = asyncio.run(send())

    assert len(requests.faults) == 60
    assert "answered with 500 instead of 200" in requests.faults[0]
    assert not requests.answered
    assert not any(requests.spent_nanos.values())
