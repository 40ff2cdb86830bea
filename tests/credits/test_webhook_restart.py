"""Webhooks of real processes, one of which is killed."""

import asyncio
import json
from typing import Any

from sqlalchemy import update

from credits.client import CreditsClient, credits_process
from credits.webhook_receiver import SECRET, Received, Receiver, receiving
from credits_service.db.engine import DatabaseLimits, database_url, open_database
from credits_service.db.tables import webhook_events


def _service(receiver: Receiver) -> dict[str, str]:
    return {
        "WEBHOOK_URL": receiver.url,
        "WEBHOOK_SECRET": SECRET,
        "WEBHOOK_ALLOW_PRIVATE_ADDRESSES": "true",
        "LOW_BALANCE_USD": "2",
    }


async def test_a_low_balance_is_told_though_the_service_was_killed_meanwhile(
    ledger_url: str,
) -> None:
    """The receiver fails at first, the process is killed, the next one delivers."""
    bare_url = ledger_url.replace("+asyncpg", "").replace("+aiosqlite", "")

    def run(receiver: Receiver, loop: asyncio.AbstractEventLoop) -> None:
        settings = _service(receiver)
        with credits_process(bare_url, **settings) as process:
            with CreditsClient(process.url) as client:
                client.top_up("ann", "5")
                assert client.bill("ann", "2.5").status_code == 200
                assert client.bill("ann", "1").status_code == 200
                assert client.bill("ann", "1").status_code == 200
            process.wait_for_event(event="webhook_not_delivered")
            assert not any(SECRET in line for line in process.lines)
            process.kill()
        asyncio.run(_make_due(ledger_url))
        with credits_process(bare_url, **settings):
            asyncio.run_coroutine_threadsafe(receiver.has_received(2), loop).result(60)

    async with receiving() as receiver:
        receiver.answer = lambda number: 503 if number == 1 else 204
        await asyncio.to_thread(run, receiver, asyncio.get_running_loop())

    first, second = receiver.received
    assert first.id == second.id
    assert _told(second)["type"] == "balance.low"
    assert _told(second)["data"]["user_id"] == "ann"
    assert _told(second)["data"]["balance"] == "1.5"


async def _make_due(ledger_url: str) -> None:
    """End leases and pauses, as time would."""
    database = open_database(database_url(ledger_url), DatabaseLimits())
    async with database.writer.begin() as connection:
        await connection.execute(update(webhook_events).values(next_attempt_at_micros=1))
    await database.close()


def _told(received: Received) -> dict[str, Any]:
    told = received.verified()
    assert told == json.loads(received.body)
    return told
