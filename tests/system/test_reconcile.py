"""What the gateway wrote down, what the ledger charged and what Google would bill are the same."""

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from credits.command import credits_command, environment
from support.ledgers import empty_ledger
from support.stack import MODEL, Stack, running_stack, say

_PROXY = Path(sys.executable).parent / "ai-proxy-service"
_PACIFIC = ZoneInfo("America/Los_Angeles")
_HEADER = "Date,Service description,SKU description,Usage amount,Usage unit,Subtotal ($)"
# Google calls prompts of up to 200,000 tokens short.
_SKU = "Generate content {} token count gemini 2.5 flash short {} text"

# By billing day and direction, as the client was told.
Used = Counter[tuple[str, str]]


def _serve(stack: Stack) -> Used:
    """Serve some completions, whole and streamed, for two accounts."""
    used: Used = Counter()
    client = stack.openai()
    for account in (stack.account("5"), stack.account("5")):
        for number in range(2):
            whole = client.chat.completions.create(
                model=MODEL, messages=say(f"number {number}"), user=account
            )
            assert whole.usage is not None
            *_, last = client.chat.completions.create(
                model=MODEL,
                messages=say("in pieces"),
                user=account,
                stream=True,
                stream_options={"include_usage": True},
            )
            assert last.usage is not None
            for answer, usage in ((whole, whole.usage), (last, last.usage)):
                day = datetime.fromtimestamp(answer.created, _PACIFIC).date().isoformat()
                used[day, "input"] += usage.prompt_tokens
                used[day, "output"] += usage.completion_tokens
    return used


def _export(folder: Path, *period: str) -> Path:
    log = folder / "usage.jsonl"
    subprocess.run(
        [_PROXY, "usage", "export", *period, "--output", log],
        cwd=folder,
        env=environment(DATA_DIR=str(folder)),
        check=True,
        capture_output=True,
    )
    return log


def _google_bill(folder: Path, used: Used) -> Path:
    rows = [
        f"{day},Gemini API,{_SKU.format(kind, kind)},{tokens},count,0"
        for (day, kind), tokens in used.items()
    ]
    bill = folder / "bill.csv"
    bill.write_text("\n".join([_HEADER, *rows]))
    return bill


def test_log_ledger_and_bill_agree_until_a_record_is_lost(tmp_path: Path) -> None:
    with empty_ledger("sqlite", tmp_path) as url, running_stack(tmp_path, url) as stack:
        used = _serve(stack)
        # It writes all that it still has to its log before it ends.
        assert stack.proxy.stop() == 0
        now = datetime.now(UTC)
        start, end = now - timedelta(days=2), now + timedelta(days=2)
        period = ["--from", start.isoformat(), "--to", end.isoformat()]
        log, bill = _export(tmp_path, *period), _google_bill(tmp_path, used)
        command = ["reconcile", "--usage", str(log), "--google", str(bill), *period, "--json"]

        agreed = credits_command(tmp_path, command, DATABASE_URL=url)
        assert agreed.code == 0, agreed.stdout + agreed.stderr
        document = agreed.document()
        assert document["log"]["by_status"] == {"charged": 8}
        assert document["matched"] == {"count": 8, "usd": document["log"]["usd"]}
        assert document["findings"] == []
        told = {
            (line["day"], line["kind"]): int(line["log"]) for line in document["google"]["lines"]
        }
        assert told == used

        lines = log.read_bytes().splitlines(keepends=True)
        lost = lines.pop(4)
        log.write_bytes(b"".join(lines))
        differing = credits_command(tmp_path, command, DATABASE_URL=url)
        assert differing.code == 1
        (finding,) = differing.document()["findings"]
        assert finding["kind"] == "not_in_log"
        assert finding["completion_id"].encode() in lost
