"""`credits reconcile` against ledgers that were filled as the proxy fills them."""

import gzip
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from credits.client import CreditsClient, Json, app_of
from credits.command import credits_command
from credits.drivers import Clock
from credits.reconcile_books import bill_for, line_of, record_of_tokens
from credits.reconcile_world import HOUR, Books
from credits_service.cli.failures import CommandError
from credits_service.cli.main import app
from credits_service.cli.reconcile_files import google_rows, log_records
from credits_service.core.money import nanos_from_usd, usd_from_nanos
from credits_service.reconciliation.usage_log import UsageRecord
from support.live_server import live_server

on_sqlite = pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)

_MICROS = 1_000_000


@pytest.fixture
def books(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Books]:
    monkeypatch.chdir(tmp_path)
    clock = Clock()
    clock.micros = time.time_ns() // 1000
    with (
        # The command writes to the standard output that the service would log to.
        capture_logs(),
        live_server(app_of(ledger_url, clock)) as base_url,
        CreditsClient(base_url) as client,
    ):
        yield Books(ledger_url, tmp_path, client, clock)


def _changed(record: UsageRecord, **changes: Any) -> UsageRecord:
    return msgspec.structs.replace(record, **changes)


def test_a_log_that_fits_its_ledger_is_clean(books: Books, tmp_path: Path) -> None:
    for number in range(3):
        books.completion(f"chatcmpl-{number}")
    books.completion("chatcmpl-2-2", completion_id="chatcmpl-2", attempt=2)
    assert books.client.bill("ann", "0.5").status_code == 200

    ended = credits_command(tmp_path, books.arguments("--json"), DATABASE_URL=books.url)
    assert (ended.code, ended.stderr) == (0, "")
    document = ended.document()
    each = nanos_from_usd(Decimal("0.0001081"))
    assert document["ok"] is True
    assert document["log"] == {
        "count": 4,
        "usd": usd_from_nanos(4 * each),
        "by_status": {"charged": 4},
    }
    assert document["matched"] == {"count": 4, "usd": usd_from_nanos(4 * each)}
    assert document["other_charges"] == {"count": 1, "usd": "0.5"}
    assert (document["totals"], document["findings"]) == ({}, [])
    assert "The log and the ledger agree." in books.reconcile().stdout


def test_each_difference_is_named_with_its_key_and_both_values(books: Books) -> None:
    a, b, c, d, e, f = [books.completion(f"chatcmpl-{name}") for name in "abcdef"]
    log = [
        _changed(a, usage={**a.usage, "cached_tokens": 3}),
        _changed(b, account="bob"),
        _changed(c, charged=Decimal("0.0001")),
        # d is not in the log
        _changed(e, items=e.items[:1]),
        f,
        _changed(f, completion_id="chatcmpl-g", billing_key="chatcmpl-g", transaction_id=None),
        _changed(
            f, completion_id="chatcmpl-h", billing_key="chatcmpl-h", status="pending", hold_id=None
        ),
    ]
    # The same completion under another key is another charge.
    again = books.client.bill("ann", "0.0001081", key="other-key", **bill_for(f))
    assert again.status_code == 200
    document = books.document(records=log)
    assert sorted((each["kind"], each["key"]) for each in document["findings"]) == [
        ("account_differs", "chatcmpl-b"),
        ("not_in_ledger", "chatcmpl-g"),
        ("not_in_log", "chatcmpl-d"),
        ("not_recomputable", "chatcmpl-e"),
        ("paid_differs", "chatcmpl-c"),
        ("pending", "chatcmpl-h"),
        ("twice_in_ledger", "chatcmpl-f"),
        ("usage_differs", "chatcmpl-a"),
    ]
    assert document["differences"] == 7
    findings = {finding["kind"]: finding for finding in document["findings"]}
    assert findings["twice_in_ledger"]["transaction_id"] == again.json()["transaction_id"]
    assert findings["not_in_log"]["transaction_id"] == d.transaction_id
    usage = findings["usage_differs"]
    assert (usage["in_log"], usage["in_ledger"]) == ("cached_tokens 3", "cached_tokens 0")
    assert document["totals"]["pending"] == {"count": 1, "usd": "0.0001081"}

    shown = books.reconcile("--limit", "2", records=log)
    assert shown.code == 1
    assert "7 differences between the log and the ledger." in shown.stdout
    assert "6 more" in shown.stdout


def test_a_hold_that_expired_is_told_apart_until_its_request_settles(books: Books) -> None:
    first = books.completion("chatcmpl-a")
    held = books.client.held("ann", "0.01", ttl_s=900)
    hold_id = held["hold_id"]
    raised = books.client.call("PATCH", f"/holds/{hold_id}", {"progress": "0.00005"})
    assert raised.status_code == 200, raised.text
    books.clock.micros += 901 * _MICROS
    books.client.top_up("ann", "1")  # any business of the account's settles what is due

    (finding,) = books.document()["findings"]
    assert (finding["kind"], finding["hold_id"], finding["usd"]) == (
        "expired_hold",
        hold_id,
        "0.00005",
    )
    assert finding["difference"] is False
    waiting = record_of_tokens(
        "chatcmpl-b", ended_at=books.now, hold_id=hold_id, status="pending", transaction_id=None
    )
    assert sorted(books.found([first, waiting])) == [
        ("expired_hold", "chatcmpl-b"),
        ("pending", "chatcmpl-b"),
    ]
    late = books.settle(_changed(waiting, status="charged"))
    assert late.charged == late.amount - Decimal("0.00005")
    settled = books.document()
    assert (settled["findings"], settled["matched"]["usd"]) == ([], "0.0002162")


def test_a_shortfall_is_told_with_what_is_missing(books: Books) -> None:
    books.client.top_up("bob", "0.00001")
    held = books.client.held("bob", "0.00001", ttl_s=900)
    books.settle(record_of_tokens("c", ended_at=books.now, account="bob", hold_id=held["hold_id"]))
    (finding,) = books.document()["findings"]
    assert (finding["kind"], finding["usd"]) == ("shortfall", "0.0000981")


@on_sqlite
def test_what_was_delivered_much_later_is_found_by_its_number(books: Books) -> None:
    record = books.completion("chatcmpl-a")
    # The completion ended long before the ledger heard of it.
    books.now -= timedelta(days=10)
    old = _changed(record, ended_at=books.now)
    assert books.found([old]) == []
    assert books.found([_changed(old, transaction_id=None)]) == [("not_in_ledger", "chatcmpl-a")]


@on_sqlite
def test_what_was_booked_just_after_the_period_is_found(books: Books) -> None:
    record = books.completion("chatcmpl-a")
    # Even where the log does not say under which number.
    books.now -= HOUR + timedelta(minutes=1)
    assert books.found([_changed(record, ended_at=books.now, transaction_id=None)]) == []


@on_sqlite
def test_only_what_ended_in_the_period_counts(books: Books) -> None:
    record = books.completion("chatcmpl-a")
    later = _changed(record, ended_at=books.now + HOUR, usage={})
    document = books.document(records=[later])
    assert (document["ok"], document["log"]["count"], document["matched"]["count"]) == (True, 0, 0)


@on_sqlite
def test_logs_of_several_machines_are_one_log(books: Books, tmp_path: Path) -> None:
    records = [books.completion(f"chatcmpl-{number}") for number in range(4)]
    other = tmp_path / "other.jsonl.gz"
    other.write_bytes(gzip.compress(b"".join(map(line_of, records[1:]))))
    assert books.reconcile("--usage", str(other), records=records[:2]).code == 0
    everything = tmp_path / "findings.jsonl"
    document = books.document("--findings", str(everything), "--limit", "1", records=[])
    assert (len(document["findings"]), document["findings_left_out"]) == (1, 3)
    written = [json.loads(line) for line in everything.read_text().splitlines()]
    assert sorted(finding["key"] for finding in written) == [
        record.billing_key for record in records
    ]
    assert written[0]["usd"] == "0.0001081"


@on_sqlite
class TestGoogle:
    def _bill(self, books: Books, input_tokens: str, extra: str = "") -> str:
        """Google's report of the day that the books are of, in Pacific time."""
        books.now = books.now.replace(hour=20, minute=0)
        day = books.now.date().isoformat()
        header = "Date,Service description,SKU description,Usage amount,Usage unit,Subtotal ($)"
        rows = [
            f"{day},Gemini API,Generate content {kind} token count gemini 2.5 flash lite text,"
            f'"{amount}",count,0.01'
            for kind, amount in (("input", input_tokens), ("output", "40"))
        ]
        return "\n".join([header, *rows, *([f"{day},{extra},7,count,0.5"] if extra else [])])

    def _reconcile(self, books: Books, tmp_path: Path, bill: str, *arguments: str) -> Json:
        file = tmp_path / "bill.csv"
        file.write_text(bill)
        records = [_changed(record, ended_at=books.now) for record in books.records]
        period = [
            "--from",
            (books.now - 30 * HOUR).isoformat(),
            "--to",
            (books.now + 30 * HOUR).isoformat(),
        ]
        return books.document(*period, "--google", str(file), *arguments, records=records)

    def test_counts_are_compared_by_day_model_and_kind(self, books: Books, tmp_path: Path) -> None:
        for name in "ab":
            books.completion(f"chatcmpl-{name}")
        same = self._reconcile(books, tmp_path, self._bill(books, "2,002"))
        google = same["google"]
        assert (same["ok"], google["ok"]) == (True, True)
        assert [line["kind"] for line in google["lines"]] == ["input", "output"]
        assert google["lines"][0] == {
            "day": books.now.date().isoformat(),
            "model": "gemini-2.5-flash-lite",
            "service_tier": "standard",
            "kind": "input",
            "log": "2002",
            "google": "2002",
            "difference": "0",
            "percent": "0.000",
            "log_usd": "0.000200",
            "google_usd": "0.010000",
            "ok": True,
        }
        more = self._bill(books, "2,012")
        assert self._reconcile(books, tmp_path, more)["ok"] is False
        assert self._reconcile(books, tmp_path, more, "--tolerance-percent", "0.5")["ok"] is True

    def test_a_sku_that_is_not_known_is_listed_and_counts(
        self, books: Books, tmp_path: Path
    ) -> None:
        for name in "ab":
            books.completion(f"chatcmpl-{name}")
        unknown = self._bill(books, "2,002", "Gemini API,Telepathy count")
        ended = self._reconcile(books, tmp_path, unknown)
        (sku,) = ended["google"]["unknown_skus"]
        assert (ended["ok"], sku["sku"], sku["quantity"], sku["google_usd"]) == (
            False,
            "Telepathy count",
            "7",
            "0.500000",
        )
        other = self._bill(books, "2,002", "Compute Engine,E2 Core")
        assert self._reconcile(books, tmp_path, other)["ok"] is True


def _assert_refused(work: Callable[[], object], why: str) -> None:
    with pytest.raises(CommandError, match=why) as refused:
        work()
    assert refused.value.exit_code == 2


def test_files_that_cannot_be_read_are_told_with_the_place(tmp_path: Path) -> None:
    line = line_of(record_of_tokens())
    bad, cut, bill = tmp_path / "bad.jsonl", tmp_path / "cut.gz", tmp_path / "bill.csv"
    bad.write_bytes(line + b'\n{"no": "record"}\n')
    cut.write_bytes(gzip.compress(line)[:-9])
    bill.write_bytes(b"Datum,SKU \xff\n")
    _assert_refused(lambda: list(log_records(bad)), "bad.jsonl, line 3: no record")
    _assert_refused(lambda: list(log_records(cut)), "cut.gz can't be read")
    _assert_refused(lambda: list(log_records(tmp_path / "none")), "none can't be read")
    _assert_refused(lambda: list(google_rows(bill)), "bill.csv is no billing export")
    bill.write_text("Datum,SKU\n")
    _assert_refused(lambda: list(google_rows(bill)), "'Date, Usage start date'")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--from", "yesterday"], "no date"),
        (["--from", "2026-11-10T00:00:00"], "no moment"),
        (["--to", "2020-01-01"], "--to must be after --from"),
        (["--tolerance-percent", "NaN"], "no percentage"),
        (["--tolerance-percent", "101"], "no percentage"),
        (["--alias", "x"], "--alias 'x'"),
        (["--findings", "taken"], "taken is there already"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    arguments: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("mine")
    Path("usage.jsonl").write_bytes(line_of(record_of_tokens()))
    given = ["reconcile", "--usage", "usage.jsonl", "--from", "2026-11-01", "--to", "2026-12-01"]
    ended = CliRunner().invoke(app, [*given, *arguments])
    told = f"{ended.output} {ended.exception}"
    assert why in " ".join(told.replace("│", " ").split())
    assert getattr(ended.exception, "exit_code", ended.exit_code) == 2
    assert Path("taken").read_text() == "mine"


def test_a_ledger_that_is_not_there_is_told(tmp_path: Path) -> None:
    log = tmp_path / "usage.jsonl"
    log.write_bytes(line_of(record_of_tokens()))
    arguments = ["--usage", str(log), "--from", "2026-11-01", "--to", "2026-12-01"]
    ended = credits_command(tmp_path, ["reconcile", *arguments], DATA_DIR=str(tmp_path / "data"))
    assert (ended.code, "There is no ledger" in ended.stderr) == (3, True)
