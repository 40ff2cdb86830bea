"""The `credits` command against a running service: what it does, says, and how it ends."""

import csv
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from credits.client import ADMIN_KEY, SERVICE_KEY, CreditsClient
from credits.command import Ended, credits_command

Run = Callable[..., Ended]

# The command speaks HTTP here: one test with both engines behind the service is enough.
on_sqlite = pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)


@pytest.fixture
def run(service: CreditsClient, tmp_path: Path) -> Run:
    """Run the command against the service."""

    def run_command(*arguments: str, **settings: str) -> Ended:
        url = str(service.http.base_url)
        return credits_command(tmp_path, arguments, CREDITS_SERVICE_URL=url, **settings)

    return run_command


def _done(ended: Ended) -> Ended:
    assert ended.code == 0, ended.stderr
    return ended


def test_credit_goes_in_out_and_back(run: Run, service: CreditsClient) -> None:
    user = "a/b c%/transactions"
    topped_up = _done(run("topup", user, "12.50", "--reference", "pay_1", "--json")).document()
    assert (topped_up["amount"], topped_up["balance"]) == ("12.5", "12.5")
    assert topped_up["replayed"] is False
    charge = service.bill(user, "0.000625").json()["transaction_id"]

    refunded = _done(run("--json", "refund", charge, "--reason", "kind", "--amount", "0.0006"))
    assert refunded.document()["refundable"] == "0.000025"
    again = run("refund", charge, "--reason", "kind", "--amount", "1")
    assert again.code == 1
    assert "field amount" in again.stderr

    shown = _done(run("balance", user)).stdout
    assert "12.499975" in shown
    assert user in shown
    service.assert_sound()


@on_sqlite
def test_reports_have_every_page_and_nothing_but_the_document(
    run: Run, service: CreditsClient
) -> None:
    service.top_up("ann", "10")
    for _ in range(4):
        service.bill("ann", "1")
    service.held("ann", "0.5")

    listed = _done(run("transactions", "ann", "--json", "--limit", "2")).document()
    assert len(listed["transactions"]) == 2
    assert listed["next_cursor"]
    every = _done(run("transactions", "ann", "--json", "--all", "--oldest-first")).document()
    assert [item["seq"] for item in every["transactions"]] == [1, 2, 3, 4, 5]
    charges = _done(run("transactions", "ann", "--kind", "charge"))
    assert charges.stdout.count(" charge ") == 4
    holds = _done(run("holds", "ann", "--status", "active", "--json")).document()
    assert [hold["amount"] for hold in holds["holds"]] == ["0.5"]

    statement = _done(run("statement", "ann", "--json")).document()
    assert (statement["opening_balance"], statement["closing_balance"]) == ("0", "6")
    assert statement["totals"]["charge"] == "-4"
    assert len(statement["transactions"]) == 5
    table = _done(run("statement", "ann")).stdout
    assert "closing balance" in table
    rows = list(csv.DictReader(io.StringIO(_done(run("statement", "ann", "--csv")).stdout)))
    assert len(rows) >= 5
    moment = statement["transactions"][0]["booked_at"]
    assert _done(run("balance", "ann", "--at", moment, "--json")).document()["balance"] == "10"
    assert "ann" in _done(run("balance")).stdout


@on_sqlite
def test_accounts_are_limited_frozen_opened_and_closed(run: Run, service: CreditsClient) -> None:
    service.top_up("ann", "10")
    limited = _done(run("limits", "ann", "--day", "2", "--low-balance", "1", "--json")).document()
    assert (limited["limits"]["day"], limited["low_balance"]) == ("2", "1")
    shown = _done(run("limits", "ann", "--json")).document()
    assert (shown["limits"], shown["spendable"]) == (limited["limits"], "2")
    freed = _done(run("limits", "ann", "--day", "none", "--json")).document()
    assert (freed["limits"]["day"], freed["low_balance"]) == (None, "1")

    assert "frozen" in _done(run("freeze", "ann")).stdout
    assert service.bill("ann", "1").status_code == 403
    assert "open" in _done(run("unfreeze", "ann")).stdout

    assert run("close", "ann", "--forfeit").code == 2, "nobody is there to be asked"
    not_empty = run("close", "ann", "--yes")
    assert (not_empty.code, "--forfeit" in not_empty.stderr) == (1, True)
    closed = _done(run("close", "ann", "--forfeit", "--yes", "--json")).document()
    assert (closed["status"], closed["balance"]) == ("closed", "0")
    assert run("unfreeze", "ann").code == 1
    service.assert_sound()


@on_sqlite
def test_a_repeated_command_is_done_once(run: Run, service: CreditsClient) -> None:
    first = _done(run("topup", "ann", "5", "--json")).document()
    again = _done(run("topup", "ann", "5", "--idempotency-key", first["idempotency_key"]))
    assert "done before" in again.stdout
    other = run("topup", "ann", "6", "--idempotency-key", first["idempotency_key"], "--json")
    assert other.code == 1
    assert other.document()["error"]["code"] == "idempotency_key_reused"
    assert service.account("ann")["balance"] == "5"


@on_sqlite
def test_refusals_name_the_reason_the_request_and_the_way_out(run: Run, tmp_path: Path) -> None:
    unknown = run("balance", "nobody")
    assert unknown.code == 1
    assert "account_not_found, request_id: req_" in unknown.stderr
    assert unknown.stdout == ""
    as_json = run("balance", "nobody", "--json")
    assert as_json.document()["error"]["status"] == 404
    no_key = run("balance", "ann", CREDITS_API_KEY="", ADMIN_API_KEYS="")
    assert (no_key.code, "Set CREDITS_API_KEY" in no_key.stderr) == (1, True)
    service_key = run("topup", "ann", "1", CREDITS_API_KEY=SERVICE_KEY)
    assert (service_key.code, "need an admin key" in service_key.stderr) == (1, True)
    assert SERVICE_KEY not in service_key.stderr

    _done(run("topup", "ann", "1", CREDITS_API_KEY="", ADMIN_API_KEYS=f"me:{ADMIN_KEY}"))
    (tmp_path / "key").write_text(f"{ADMIN_KEY}\n")
    _done(run("--key-file", str(tmp_path / "key"), "balance", "ann", CREDITS_API_KEY="wrong"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["topup", "ann", "1e3"],
        ["topup", "ann", "0.0000000001"],
        ["--url", "http://me:secret@host", "balance", "ann"],
        ["--key-file", "missing", "balance", "ann"],
        ["balance", "--at", "2026-01-01T00:00:00Z"],
    ],
)
def test_what_makes_no_sense_is_not_sent(tmp_path: Path, arguments: list[str]) -> None:
    ended = credits_command(tmp_path, arguments, CREDITS_SERVICE_URL="http://127.0.0.1:1")
    assert ended.code == 2, ended.stderr
    assert ended.stdout == ""
    assert "secret" not in ended.stderr


def test_help_tells_examples_and_exit_codes(tmp_path: Path) -> None:
    root = credits_command(tmp_path, ["--help"])
    for said in ("Exit codes:", "credits topup ann 25", "CREDITS_API_KEY", "migrate-to"):
        assert said in root.stdout
    assert "Examples:" in credits_command(tmp_path, ["limits", "--help"]).stdout


class _Flaky(ThreadingHTTPServer):
    """Answers one request after the other as it is told; the last way for all that follow.

    Attributes:
        keys: the idempotency keys that requests came with.
    """

    def __init__(self, *ways: str) -> None:
        super().__init__(("127.0.0.1", 0), _FlakyHandler)
        self.ways = list(ways)
        self.keys: list[str] = []


class _FlakyHandler(BaseHTTPRequestHandler):
    server: _Flaky

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.append(self.headers["Idempotency-Key"])
        ways = self.server.ways
        way = ways.pop(0) if len(ways) > 1 else ways[0]
        if way == "hang up":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        answers = {
            "away": (
                503,
                "application/problem+json",
                {"detail": "The ledger is away.", "code": "x"},
            ),
            "done": (201, "application/json", {"user_id": "ann", "amount": "1", "balance": "1"}),
            "stranger": (200, "text/html", "hello"),
        }
        status, kind, body = answers[way]
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@pytest.fixture
def flaky(request: pytest.FixtureRequest) -> Iterator[_Flaky]:
    server = _Flaky(*request.param)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _top_up(flaky: _Flaky, folder: Path, *options: str) -> Ended:
    url = f"http://127.0.0.1:{flaky.server_port}"
    return credits_command(folder, ["--url", url, *options, "topup", "ann", "1", "--json"])


@pytest.mark.parametrize("flaky", [("hang up", "away", "done")], indirect=True)
def test_a_lost_answer_is_asked_for_again_under_the_same_key(flaky: _Flaky, tmp_path: Path) -> None:
    ended = _done(_top_up(flaky, tmp_path))
    assert len(flaky.keys) == 3
    assert set(flaky.keys) == {ended.document()["idempotency_key"]}
    assert "Trying again under the same key" in ended.stderr


@pytest.mark.parametrize("flaky", [("hang up",), ("away",), ("stranger",)], indirect=True)
def test_an_unknown_outcome_is_told_with_the_way_to_repeat_it(
    flaky: _Flaky, tmp_path: Path
) -> None:
    ended = _top_up(flaky, tmp_path, "--retries", "1")
    assert ended.code == 3
    (key,) = set(flaky.keys)
    assert len(flaky.keys) <= 2
    assert f"topup ann 1 --json --idempotency-key {key}" in ended.stderr
    assert ended.document()["error"]["idempotency_key"] == key
    assert ADMIN_KEY not in ended.stderr + ended.stdout


def test_a_service_that_is_not_there_is_told_from_an_unknown_outcome(tmp_path: Path) -> None:
    arguments = ["--url", "http://127.0.0.1:1", "--retries", "1", "topup", "ann", "1"]
    ended = credits_command(tmp_path, arguments)
    assert ended.code == 3
    assert "does not answer" in ended.stderr
    assert "may have been done" not in ended.stderr
