"""The benchmarks' loader writes what the service would have written: the audit finds it sound."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from credits_service.db.audit import audit
from credits_service.db.engine import DatabaseLimits, database_url, open_database
from credits_service.db.tables import accounts, holds, idempotency_keys, lots, transactions

ROOT = Path(__file__).resolve().parents[2]
TRANSACTIONS, ACCOUNTS = 4_000, 40


async def figures(url: str) -> dict[str, Any]:
    """Audit a ledger and count what is in it."""
    database = open_database(database_url(url), DatabaseLimits())
    ended_lots = select(func.count()).select_from(lots).where(lots.c.remaining_nanos == 0)
    hot = select(accounts.c.seq).where(accounts.c.user_id == "hot")
    keys = select(func.count()).select_from(idempotency_keys)
    try:
        async with database.reader.connect() as connection:
            found = await audit(connection)
        async with database.reader.connect() as connection:
            return {
                "audit": found,
                "hot": await connection.scalar(hot),
                "kinds": set(await connection.scalars(select(transactions.c.kind).distinct())),
                "ends": set(await connection.scalars(select(holds.c.status).distinct())),
                "ended lots": await connection.scalar(ended_lots),
                "keys": await connection.scalar(keys),
            }
    finally:
        await database.close()


def test_a_made_up_history_is_a_sound_ledger(ledger_url: str) -> None:
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.loader", ledger_url),
            *("--transactions", str(TRANSACTIONS), "--accounts", str(ACCOUNTS)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    found = asyncio.run(figures(ledger_url))
    assert found["audit"].violations == []
    assert found["audit"].accounts == ACCOUNTS
    assert found["audit"].transactions >= TRANSACTIONS
    assert found["hot"] > 0.25 * TRANSACTIONS
    assert {"topup", "charge", "refund", "lot_expiry"} <= found["kinds"]
    assert found["ends"] == {"captured", "released", "expired"}
    assert found["ended lots"] > 0
    assert found["keys"] > TRANSACTIONS
