"""`ai-proxy-service usage export`: the records of a period, as other programs read them."""

import asyncio
import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from ai_proxy_service.core.moments import MICROS_PER_SECOND
from ai_proxy_service.core.usage_export import COLUMNS, line
from ai_proxy_service.core.usage_log import ChargeRecord, LateOutcome
from ai_proxy_service.main import main
from ai_proxy_service.services.usage_database import open_usage_database
from ai_proxy_service.services.usage_store import UsageStore
from support.databases import postgres_database, require_postgres
from support.ledgers import ENGINES
from support.usage_logs import a_record

# 2026-11-01T00:00:00Z
NOVEMBER_MICROS = 1_793_491_200 * MICROS_PER_SECOND
RECORD = a_record(
    completion_id="chatcmpl-1",
    attempt=2,
    request_id="req_1",
    started_at_micros=NOVEMBER_MICROS,
    ended_at_micros=NOVEMBER_MICROS + 1,
)
EXPORTED = {
    "completion_id": "chatcmpl-1",
    "attempt": 2,
    "billing_key": "chatcmpl-1-2",
    "request_id": "req_1",
    "account": "ann",
    "key": "tester",
    "model": "gemini-2.5-flash",
    "service_tier": "standard",
    "catalog_version": "1",
    "started_at": "2026-11-01T00:00:00.000000Z",
    "ended_at": "2026-11-01T00:00:00.000001Z",
    "usage": {"prompt_tokens": 3, "candidates_tokens": 2},
    "items": [
        {"kind": "input", "quantity": 3, "unit_price_pico": 300_100, "unit": "token"},
        {"kind": "output", "quantity": 2, "unit_price_pico": 5_722_500, "unit": "token"},
    ],
    "exact_cost_pico": "12345300",
    "amount": "0.000012346",
    "charged": "0.000012346",
    "shortfall": "0",
    "estimated": False,
    "status": "charged",
    "hold_id": "h-1",
    "transaction_id": "t-1",
}


@pytest.fixture(params=ENGINES)
def usage_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    require_postgres()
    with postgres_database() as url:
        yield url


class Ended(NamedTuple):
    """How the command ended, and what it wrote."""

    code: int
    stdout: bytes
    stderr: str


class Exports:
    """Runs the command in a folder, within this process: it starts in no time."""

    def __init__(
        self, folder: Path, capsys: pytest.CaptureFixture[bytes], patch: pytest.MonkeyPatch
    ) -> None:
        self._capsys = capsys
        self._patch = patch
        patch.chdir(folder)

    def run(self, *arguments: str, **settings: str) -> Ended:
        code: object = 0
        with self._patch.context() as patch:
            patch.setattr(sys, "argv", ["ai-proxy-service", "usage", "export", *arguments])
            for name, value in {"DATA_DIR": ".", "USAGE_LOG_URL": "", **settings}.items():
                patch.setenv(name, value)
            try:
                main()
            except SystemExit as ending:
                code = ending.code or 0
        stdout, stderr = self._capsys.readouterr()
        if isinstance(code, str):
            # Python writes such a text to standard error, and ends with 1.
            return Ended(1, stdout, f"{code}\n{stderr.decode()}")
        assert isinstance(code, int)
        return Ended(code, stdout, stderr.decode())


@pytest.fixture
def exports(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Exports:
    return Exports(tmp_path, capsysbinary, monkeypatch)


def fill(
    url: str, folder: Path, records: list[ChargeRecord], late: Sequence[LateOutcome] = ()
) -> None:
    """Make a log with some records in it."""

    async def write() -> None:
        store = UsageStore(open_usage_database(url, folder / "usage.sqlite3"))
        await store.prepare()
        await store.write(records, late)
        await store.aclose()

    asyncio.run(write())


def test_a_line_says_all_that_a_record_does() -> None:
    assert json.loads(line("jsonl", RECORD)) == EXPORTED
    assert line("jsonl", RECORD).count(b"\n") == 1


def test_a_row_has_every_column_and_objects_as_json() -> None:
    (row,) = csv.reader(io.StringIO(line("csv", RECORD).decode(), newline=""))

    cells = dict(zip(COLUMNS, row, strict=True))
    assert json.loads(cells["items"]) == EXPORTED["items"]
    assert json.loads(cells["usage"]) == EXPORTED["usage"]
    assert (cells["estimated"], cells["attempt"]) == ("false", "2")
    assert set(COLUMNS) == EXPORTED.keys()


def test_a_period_is_exported_from_either_database(
    exports: Exports, usage_url: str, tmp_path: Path
) -> None:
    """From is in it and to is not; what was charged late is told as charged."""
    before, last = (
        a_record(ended_at_micros=NOVEMBER_MICROS + micros)
        for micros in (-1, 24 * 3600 * MICROS_PER_SECOND)
    )
    late = a_record(
        completion_id="chatcmpl-2",
        ended_at_micros=NOVEMBER_MICROS + 2,
        status="pending",
        charged_nanos=0,
    )
    outcome = LateOutcome("chatcmpl-2", 1, "charged", 12_346, 0, "t-2")
    fill(usage_url, tmp_path, [last, late, RECORD, before], [outcome])

    done = exports.run(
        "--from", "2026-11-01", "--to", "2026-11-02T00:00:00Z", USAGE_LOG_URL=usage_url
    )

    assert done.code == 0, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == EXPORTED
    assert (second["completion_id"], second["status"]) == ("chatcmpl-2", "charged")
    assert (second["charged"], second["transaction_id"]) == ("0.000012346", "t-2")
    assert done.stderr == "2 records\n"


def test_a_file_is_written_whole_and_never_over_another(exports: Exports, tmp_path: Path) -> None:
    fill("", tmp_path, [RECORD])
    args = ("--from", "2026-11-01", "--format", "csv", "--output", "out.csv")

    done = exports.run(*args)
    again = exports.run(*args)

    assert done.code == 0, done.stderr
    header, row = (tmp_path / "out.csv").read_bytes().splitlines()
    assert header.decode().split(",") == list(COLUMNS)
    assert row.startswith(b"chatcmpl-1,2,chatcmpl-1-2,")
    assert again.code == 1
    assert "is there already" in again.stderr
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.csv"]


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "said"),
    [
        ((), {"DATA_DIR": "none"}, 1, "There is no usage log at none"),
        (("--to", "November"), {}, 2, "is no day or moment"),
        (("--to", "2026-11-01"), {}, 2, "ends before it begins"),
        ((), {"USAGE_LOG_URL": "mysql://x"}, 1, "USAGE_LOG_URL"),
        (
            ("--output", "out"),
            {"USAGE_LOG_URL": "postgresql://nobody:secret@127.0.0.1:1/none"},
            1,
            "The usage log can't be read",
        ),
    ],
)
def test_what_can_not_be_done_is_said(
    exports: Exports, arguments: tuple[str, ...], settings: dict[str, str], code: int, said: str
) -> None:
    done = exports.run("--from", "2026-11-01", *arguments, **settings)

    # Lines are broken where a terminal ends.
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "secret" not in done.stderr
    assert (done.code, done.stdout) == (code, b"")
    assert list(Path().iterdir()) == []
