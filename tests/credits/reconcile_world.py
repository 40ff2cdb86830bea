"""A ledger that is filled as the proxy fills it, and the command that reconciles it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from typer.testing import CliRunner

from credits.client import CreditsClient, Json
from credits.command import Ended
from credits.drivers import Clock
from credits.reconcile_books import bill_for, line_of, record_of_tokens
from credits_service.cli.main import app
from credits_service.core.money import usd_from_nanos
from credits_service.reconciliation.usage_log import UsageRecord

HOUR = timedelta(hours=1)


class Books:
    """A ledger, and the usage log that fits it."""

    def __init__(self, url: str, folder: Path, client: CreditsClient, clock: Clock) -> None:
        self.url = url
        self.client = client
        self.clock = clock
        self.records: list[UsageRecord] = []
        self.now = datetime.now(UTC)
        self._folder = folder
        client.top_up("ann", "10")

    def completion(self, key: str, account: str = "ann", **changes: Any) -> UsageRecord:
        """Serve a completion: hold, charge, write down."""
        held = self.client.held(account, "0.01", ttl_s=900)
        record = record_of_tokens(
            key, ended_at=self.now, account=account, hold_id=held["hold_id"], **changes
        )
        return self.settle(record)

    def settle(self, record: UsageRecord) -> UsageRecord:
        """Charge for a record, and write down what the ledger said."""
        response = self.client.bill(
            record.account,
            usd_from_nanos(record.amount_nanos),
            key=f"settle-{record.billing_key}",
            hold_id=record.hold_id,
            **bill_for(record),
        )
        assert response.status_code == 200, response.text
        told = response.json()
        done = msgspec.structs.replace(
            record,
            charged=Decimal(told["amount"]),
            shortfall=Decimal(told["shortfall"]),
            transaction_id=told["transaction_id"],
        )
        self.records.append(done)
        return done

    def arguments(self, *more: str, records: Sequence[UsageRecord] | None = None) -> list[str]:
        """Write a log of these records, by default of all; return how to reconcile it."""
        log = self._folder / "usage.jsonl"
        log.write_bytes(b"".join(map(line_of, self.records if records is None else records)))
        period = ["--from", (self.now - HOUR).isoformat(), "--to", (self.now + HOUR).isoformat()]
        return ["reconcile", "--usage", str(log), *period, *more]

    def reconcile(self, *more: str, records: Sequence[UsageRecord] | None = None) -> Ended:
        """Run the command inside this process, which is a second quicker than another one."""
        arguments = self.arguments(*more, records=records)
        ended = CliRunner().invoke(app, arguments, env={"DATABASE_URL": self.url})
        assert ended.exception is None or isinstance(ended.exception, SystemExit)
        return Ended(ended.exit_code, ended.stdout, ended.stderr)

    def document(self, *more: str, records: Sequence[UsageRecord] | None = None) -> Json:
        """Run the command; return what scripts get."""
        ended = self.reconcile("--json", *more, records=records)
        document = ended.document()
        assert ended.code == (0 if document["ok"] else 1)
        return document

    def found(self, records: Sequence[UsageRecord] | None = None) -> list[tuple[str, str | None]]:
        """Run the command; return the kinds and keys of what it finds."""
        findings = self.document(records=records)["findings"]
        return [(finding["kind"], finding.get("key")) for finding in findings]
