"""A ledger in which everything has happened, for those who tamper with it."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from credits.drivers import Clock, WriterDriver
from credits_service.db.audit import audit
from credits_service.db.engine import Database, DatabaseLimits, database_url, open_database
from credits_service.ledger.batch import Command
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.invariants import Violation
from credits_service.ledger.operations import (
    AmendHold,
    ChangeAccount,
    Charge,
    Operation,
    PlaceHold,
    Refund,
    ReleaseHold,
    TopUp,
)

_HOUR_MICROS = 3_600_000_000


class History:
    """A ledger in which everything has happened, and the keys of its rows by their names."""

    def __init__(self, url: str) -> None:
        self.rows: dict[str, str] = {"ann": "ann", "closed": "closed"}
        self._driver = WriterDriver(url)
        try:
            self._happen()
            assert self._driver.violations() == []
        finally:
            self._driver.close()

    @property
    def _clock(self) -> Clock:
        return self._driver.clock

    def _run(self, name: str, operation: Operation, status: int = 200) -> dict[str, Any]:
        command = Command(operation, "tester", f"req-{name}", IdempotencyKey("tester", name))
        (result,) = self._driver.run([command])
        assert result.status == status, result
        body: dict[str, Any] = json.loads(result.body)
        if "transaction_id" in body:
            self.rows[name] = body["transaction_id"]
        self.rows[f"key of {name}"] = name
        self._clock.micros += 1_000_000
        return body

    def _hold(self, name: str, ttl_micros: int = 400 * _HOUR_MICROS) -> str:
        key_id = self.rows["issued key"]
        hold = PlaceHold("ann", 500, ttl_micros, request_ref=name, key_id=key_id)
        self.rows[name] = self._run(f"place {name}", hold, 201)["hold_id"]
        return self.rows[name]

    def _happen(self) -> None:
        soon = self._clock.micros + _HOUR_MICROS
        promo = TopUp("ann", 300, "promo", 10, soon, "grant-1")
        self.rows["promo"] = self._run("grant", promo, 201)["lot_id"]
        paid = TopUp("ann", 100_000, reference="payment-1", description="first")
        self.rows["paid"] = self._run("topup", paid, 201)["lot_id"]
        self.rows["issued key"] = self._driver.make_key("ann", {"day": 90_000})
        self._run("charge", _charge("ann", 100))
        self._run("charge with key", Charge("ann", 100, key_id=self.rows["issued key"]))
        self._run("refund", Refund(self.rows["charge"], "wrong", 40), 201)
        self._run("refused", _charge("ann", 10_000_000), 402)
        self._run("capture", Charge("ann", 200, hold_id=self._hold("captured")))
        self._run("release", ReleaseHold(self._hold("released")))
        for name in ("late", "lapsed"):
            hold_id = self._hold(name, _HOUR_MICROS)
            self._run(f"use {name}", AmendHold(hold_id, progress_nanos=150))
        self._clock.micros += 2 * _HOUR_MICROS
        self._run("late capture", Charge("ann", 180, hold_id=self.rows["late"]))
        self._hold("active")
        limits: dict[str, int | None] = {"limit_day_nanos": 50_000, "low_balance_nanos": 1_000}
        self._run("change", ChangeAccount("ann", settings=limits))
        self._run("other topup", TopUp("closed", 50), 201)
        self._run("close", ChangeAccount("closed", "closed", forfeit=True))


def _charge(user_id: str, nanos: int) -> Charge:
    return Charge(
        user_id,
        nanos,
        "call",
        usage='{"tokens":1}',
        price='{"p":1}',
        metadata='{"m":1}',
        exact_cost_picos=nanos * 1000,
    )


class TamperedLedger:
    """Tampers in a transaction, audits in it, and takes everything back."""

    def __init__(self, url: str) -> None:
        self.history = History(url)
        self._runner = asyncio.Runner()
        self._database: Database = open_database(database_url(url), DatabaseLimits())
        self._runner.run(self._find_rows())

    async def _find_rows(self) -> None:
        query = "SELECT id FROM transactions WHERE kind = 'forfeiture'"
        changed = "SELECT id FROM transactions WHERE kind = 'account_change' AND user_id = 'ann'"
        async with self._database.reader.connect() as connection:
            self.history.rows["forfeiture"] = await connection.scalar(text(query))
            self.history.rows["change"] = await connection.scalar(text(changed))

    @property
    def is_sqlite(self) -> bool:
        return self._database.is_sqlite

    def violations(self, statements: Sequence[str]) -> list[Violation]:
        """Return what the audit finds after some statements."""
        return self._runner.run(self._violations(statements))

    def run(self, statement: str) -> None:
        """Run a statement as anybody would: the triggers are there."""
        self._runner.run(self._execute(statement))

    async def _execute(self, statement: str) -> None:
        async with self._database.writer.connect() as connection:
            await connection.execute(text(statement))

    async def _violations(self, statements: Sequence[str]) -> list[Violation]:
        async with self._database.writer.connect() as connection:
            await self._disarm(connection)
            for statement in statements:
                done = await connection.exec_driver_sql(statement)
                assert done.rowcount, f"changed nothing: {statement}"
            return (await audit(connection)).violations

    async def _disarm(self, connection: AsyncConnection) -> None:
        """Switch off triggers, foreign keys and checks, as somebody with the rights could."""
        if not self.is_sqlite:
            await connection.execute(text("SET LOCAL session_replication_role = replica"))
            await connection.execute(text("SET LOCAL enable_seqscan = on"))
            return
        found = "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        for name in list(await connection.scalars(text(found))):
            await connection.execute(text(f"DROP TRIGGER {name}"))
        await connection.execute(text("PRAGMA defer_foreign_keys = ON"))
        await connection.execute(text("PRAGMA ignore_check_constraints = ON"))

    def close(self) -> None:
        self._runner.run(self._database.close())
        self._runner.close()
