"""Does the time of a refusal tell how much of a guessed key was right?

Keys that share a long beginning with a real one are shown in turn with keys that share nothing,
in random order over one connection; both kinds are refused. For configured keys, where nothing
but the comparison could tell, and for issued ones, whose public prefix is looked up.
"""

import gc
import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from benchmarks.client import Client
from benchmarks.databases import databases
from benchmarks.processes import BenchmarkError, Running
from benchmarks.report import Plan, Report, progress
from benchmarks.services import CLIENT_KEY, SERVICE_KEY, start_ledger, start_proxy, top_up
from benchmarks.significance import mann_whitney, welch

from service_kit.issued_keys import CHARACTERS, PREFIX_LENGTH, RANDOM_LENGTH, key_text
from service_kit.keys import KeyRing, NamedKey

SAMPLES = 2_000
TABLE = f"Refused keys: a right beginning against a wrong one, {SAMPLES:,} samples a side"
_WARM = 200
# One call takes about as long as it takes to read the clock.
_CALLS_PER_SAMPLE = 10
_NEW_CHARACTERS = 5
_TIMEOUT_SECONDS = 60
_PIECE_BYTES = 65_536
_NO_LIMIT = {"RATE_LIMIT_ENABLED": "false"}

Guess = Callable[[], str]
# Shows a key, and returns how long the refusal took, in seconds.
Show = Callable[[str], float]


def _some(count: int) -> str:
    return "".join(random.choices(CHARACTERS, k=count))  # noqa: S311 - guesses, no keys


@dataclass(frozen=True, slots=True)
class Guesses:
    """Two ways to guess a key; each guess is a new one, so that no cache knows it."""

    right_beginning: Guess
    wrong: Guess


def guesses_at(key: str) -> Guesses:
    """Return guesses at a configured key; the last few characters are wrong, or all of them."""
    kept = key[:-_NEW_CHARACTERS]
    return Guesses(lambda: kept + _some(_NEW_CHARACTERS), lambda: _some(len(key)))


def guesses_at_issued(key: str) -> Guesses:
    """Return guesses at an issued key: its prefix and most of its secret are right, or nothing."""
    _, prefix, secret = key.split("-")
    kept = secret[: RANDOM_LENGTH - _NEW_CHARACTERS]
    return Guesses(
        lambda: key_text(prefix, kept + _some(_NEW_CHARACTERS)),
        lambda: key_text(_some(PREFIX_LENGTH), _some(RANDOM_LENGTH)),
    )


def run(plan: Plan, report: Report, folder: Path) -> None:  # noqa: ARG001 - as every part is called
    """Measure configured keys in process and over HTTP, then issued ones on each database."""
    ring = KeyRing((NamedKey(name, key), frozenset[str]()) for name, key in _three_keys())
    _compare(report, "configured, KeyRing.find", guesses_at(CLIENT_KEY), _finding(ring))
    with databases(folder, report) as found:
        for name, (url,) in found.items():
            with (
                start_ledger(url, folder, f"keys-{name}", _NO_LIMIT) as ledger,
                start_proxy("http://127.0.0.1:9", folder, ledger.url) as proxy,
            ):
                _over_http(report, name, ledger, proxy)


def _over_http(report: Report, database: str, ledger: Running, proxy: Running) -> None:
    top_up(ledger, "keys", 1)
    with Client(ledger.url) as operator:
        issued = operator.post("/keys", {"account": "keys", "name": "k"}, as_operator=True)["key"]
    guesses = guesses_at_issued(issued)
    with _models(proxy.url, 401) as show:
        if database == "SQLite":
            _compare(report, "configured, the proxy's 401", guesses_at(CLIENT_KEY), show)
        _compare(report, f"issued, the proxy's 401, {database}", guesses, show)
    with _verdicts(ledger.url) as show:
        _compare(report, f"issued, POST /keys/verify, {database}", guesses, show)


def _three_keys() -> Iterator[tuple[str, str]]:
    yield from (("first", _some(48)), ("bench", CLIENT_KEY), ("last", _some(48)))


def _finding(ring: KeyRing) -> Show:
    def show(key: str) -> float:
        begun = time.perf_counter()
        for _ in range(_CALLS_PER_SAMPLE):
            if ring.find(key) is not None:
                raise BenchmarkError("a guess was right")
        return (time.perf_counter() - begun) / _CALLS_PER_SAMPLE

    return show


def _compare(report: Report, row: str, guesses: Guesses, show: Show) -> None:
    """Show both kinds of guesses in random order, and report what tells them apart."""
    progress(f"keys: {row}")
    right, wrong = list[float](), list[float]()
    order = [True] * SAMPLES + [False] * SAMPLES
    random.shuffle(order)
    # Beforehand: one kind takes longer to make, and a service rests as long between two requests.
    keys = [guesses.right_beginning() if is_right else guesses.wrong() for is_right in order]
    for _ in range(_WARM):
        show(guesses.wrong())
    # Its pauses would be in some samples and not in others.
    gc.disable()
    try:
        for is_right, key in zip(order, keys, strict=True):
            (right if is_right else wrong).append(show(key))
    finally:
        gc.enable()
    rank, mean = mann_whitney(right, wrong), welch(right, wrong)
    for column, value in (
        ("right beginning, median µs", median(right) * 1e6),
        ("wrong, median µs", median(wrong) * 1e6),
        ("Mann-Whitney z", rank.value),
        ("its p", rank.p),
        ("Welch t", mean.value),
        ("p of t", mean.p),
    ):
        report.add(TABLE, row, column, value)


@contextmanager
def _models(url: str, status: int) -> Iterator[Show]:
    def request(key: str) -> bytes:
        return (
            f"GET /v1/models HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n\r\n"
        ).encode()

    with _shown(url, request, f"HTTP/1.1 {status} ".encode()) as show:
        yield show


@contextmanager
def _verdicts(url: str) -> Iterator[Show]:
    def request(key: str) -> bytes:
        body = json.dumps({"key": key})
        return (
            f"POST /api/v1/keys/verify HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n"
            f"authorization: Bearer {SERVICE_KEY}\r\n\r\n{body}"
        ).encode()

    with _shown(url, request, b"HTTP/1.1 200 ", b'"active":false') as show:
        yield show


@contextmanager
def _shown(url: str, request: Callable[[str], bytes], *expected: bytes) -> Iterator[Show]:
    """Yield what sends keys over one connection, and checks that each is refused."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), _TIMEOUT_SECONDS) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def show(key: str) -> float:
            written = request(key)
            begun = time.perf_counter()
            connected.sendall(written)
            answer = _answer(connected)
            seconds = time.perf_counter() - begun
            if not answer.startswith(expected[0]) or not all(part in answer for part in expected):
                raise BenchmarkError(f"not refused: {answer[:500]!r}")
            return seconds

        yield show


def _answer(connected: socket.socket) -> bytes:
    """Receive one answer, whose length its headers tell."""
    received = b""
    while True:
        piece = connected.recv(_PIECE_BYTES)
        if not piece:
            raise BenchmarkError(f"the connection was closed: {received[:500]!r}")
        received += piece
        head, end, body = received.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length:")[2].split()[0]):
            return received
