"""What a credits service is asked while it is killed, and what must be true afterwards."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
from fastapi import FastAPI
from sqlalchemy import text

from credits.client import ADMIN_KEY, SERVICE_KEY, Json, bearer
from credits_service.db.audit import audit
from credits_service.ledger.batch import Command
from credits_service.ledger.idempotency import IdempotencyKey
from credits_service.ledger.operations import AmendHold, Charge, Operation, PlaceHold, TopUp

if TYPE_CHECKING:
    from credits_service.api.services import Services

CENT = 10_000_000
# Below this an account's balance is low; the accounts of a round that start with a dollar cross
# it when they are charged for the first time.
LOW_BALANCE_USD = "0.99"
HOLD_TTL_MICROS = 60_000_000
DAYS_MICROS = 86_400_000_000
_LONG_TTL_MICROS = 400 * DAYS_MICROS


class Request(NamedTuple):
    """A call and the only status it may ever be answered with."""

    method: str
    path: str
    body: Json | None
    key: str | None
    status: int
    admin: bool = False


class Round(NamedTuple):
    """The requests of one run until the kill, one wave after the other.

    Attributes:
        standings: balance and held amount of each account when all is done, in cents.
        events: what is to be told, by kind.
    """

    name: str
    waves: list[list[Request]]
    standings: dict[str, tuple[int, int]]
    events: dict[str, int]


class Ledger:
    """A service on the ledger, inside this process."""

    def __init__(self, app: FastAPI, http: httpx.AsyncClient) -> None:
        self.services: Services = app.state.services
        self.http = http

    async def run(self, operations: Sequence[Operation], keys: str) -> list[Json]:
        """Book operations at once; each gets a key of its own."""
        results = await asyncio.gather(
            *(
                self.services.writer.submit(
                    Command(one, "admin", "req", IdempotencyKey("admin", f"{keys}-{number}"))
                )
                for number, one in enumerate(operations)
            )
        )
        assert all(result.status in {200, 201} for result in results), results
        return [json.loads(result.body) for result in results]

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        """Read with SQL."""
        async with self.services.queries.connection() as connection:
            return list(await connection.execute(text(statement), values))

    async def assert_sound(self, kept_since_micros: int = 0) -> None:
        """Every invariant holds, and keys and what they booked belong together.

        Args:
            kept_since_micros: keys of what was booked before may be forgotten.
        """
        async with self.services.queries.connection() as connection:
            violations = (await audit(connection)).violations
        assert not violations, violations
        booked = await self.rows("SELECT * FROM transactions")
        holds = {row.id for row in await self.rows("SELECT id FROM holds")}
        by_key = {(row.principal, row.idempotency_key): row.id for row in booked}
        remembered = set()
        for row in await self.rows("SELECT scope, key, status, body FROM idempotency_keys"):
            remembered.add((row.scope, row.key))
            body = json.loads(row.body)
            if "transaction_id" in body:
                assert by_key[row.scope, row.key] == body["transaction_id"]
            elif row.status == 201:
                assert body["hold_id"] in holds
            elif row.status == 402:
                assert (row.scope, row.key) not in by_key
        lost = {
            (row.principal, row.idempotency_key)
            for row in booked
            if row.idempotency_key is not None and row.booked_at_micros >= kept_since_micros
        } - remembered
        assert not lost, f"booked, but not remembered: {lost}"


@asynccontextmanager
async def opened(app: FastAPI) -> AsyncIterator[Ledger]:
    """Run an app's lifespan in this event loop, with a client that needs no socket."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ledger") as http,
    ):
        yield Ledger(app, http)


async def prepare(ledger: Ledger, name: str, waves: int) -> Round:
    """Book what a round's requests build upon: credit, holds, charges, holds that will be due."""
    ann, bob, poor = (f"{user}-{name}" for user in ("ann", "bob", "poor"))
    low = [f"low-{name}-{wave}" for wave in range(waves)]
    late = [f"late-{name}-{wave}" for wave in range(waves)]
    dollars = {ann: 10, bob: 10, **dict.fromkeys(low + late, 1)}
    credit = [TopUp(user, amount * 100 * CENT) for user, amount in dollars.items()]
    await ledger.run([*credit, TopUp(poor, CENT)], f"{name}-credit")
    placed = await ledger.run(
        [
            *(PlaceHold(bob, 5 * CENT, _LONG_TTL_MICROS) for _ in range(2 * waves)),
            *(PlaceHold(user, 5 * CENT, HOLD_TTL_MICROS) for user in late),
        ],
        f"{name}-holds",
    )
    holds = [hold["hold_id"] for hold in placed]
    due = holds[2 * waves :]
    used = [AmendHold(hold_id, progress_nanos=2 * CENT) for hold_id in due]
    charges = await ledger.run(
        [*(Charge(bob, 2 * CENT) for _ in range(waves)), *used], f"{name}-charges"
    )
    requests = [
        [
            *_of_ann(ann, f"{name}-{wave}"),
            *_of_bob(bob, f"{name}-{wave}", holds[2 * wave :], charges[wave]["transaction_id"]),
            _bill(poor, "1", f"{name}-{wave}-poor", 402),
            _bill(low[wave], "0.02", f"{name}-{wave}-low"),
            _bill(late[wave], "0.04", f"{name}-{wave}-late", hold_id=due[wave]),
        ]
        for wave in range(waves)
    ]
    standings = {
        ann: (1000 - waves, 5 * waves),
        bob: (1000 - 4 * waves, 0),
        poor: (1, 0),
        **dict.fromkeys(low, (98, 0)),
        **dict.fromkeys(late, (96, 0)),
        **{f"new-{name}-{wave}": (500, 0) for wave in range(waves)},
    }
    return Round(name, requests, standings, {"balance.low": 2 * waves, "hold.expired": waves})


def _bill(user_id: str, amount: str, key: str, status: int = 200, **fields: Any) -> Request:
    body = {"user_id": user_id, "amount": amount, "description": key, **fields}
    return Request("POST", "/bill", body, key, status)


def _of_ann(user_id: str, key: str) -> list[Request]:
    """A charge, a hold, a limit that differs from wave to wave, a top-up that opens an account."""
    hold = {"user_id": user_id, "amount": "0.05", "request_ref": key}
    limits = {"limits": {"day": f"{100 + int(key[-1])}"}}
    top_up = {"user_id": f"new-{key}", "amount": "5"}
    return [
        _bill(user_id, "0.01", f"{key}-bill"),
        Request("POST", "/holds", hold, f"{key}-hold", 201),
        Request("PATCH", f"/accounts/{user_id}", limits, f"{key}-limit", 200, admin=True),
        Request("POST", "/topup", top_up, f"{key}-topup", 201, admin=True),
    ]


def _of_bob(user_id: str, key: str, holds: list[str], charge: str) -> list[Request]:
    """A capture, a released hold, a refund."""
    refund = {"amount": "0.01", "reason": "test"}
    return [
        _bill(user_id, "0.03", f"{key}-capture", hold_id=holds[0]),
        Request("DELETE", f"/holds/{holds[1]}", None, None, 200),
        Request("POST", f"/transactions/{charge}/refund", refund, f"{key}-refund", 201, admin=True),
    ]


async def _exchange(http: httpx.AsyncClient, request: Request) -> httpx.Response | None:
    headers = bearer(ADMIN_KEY if request.admin else SERVICE_KEY)
    if request.key is not None:
        headers["Idempotency-Key"] = request.key
    path = f"/api/v1{request.path}"
    try:
        return await http.request(request.method, path, json=request.body, headers=headers)
    except httpx.TransportError:
        return None


async def send(
    http: httpx.AsyncClient, waves: Sequence[Sequence[Request]]
) -> dict[tuple[int, int], httpx.Response]:
    """Send wave after wave, each at once, until the service is gone; return what was answered."""
    answers: dict[tuple[int, int], httpx.Response] = {}
    for number, wave in enumerate(waves):
        responses = await asyncio.gather(*(_exchange(http, request) for request in wave))
        for at, response in enumerate(responses):
            if response is not None:
                assert response.status_code == wave[at].status, (wave[at], response.text)
                answers[number, at] = response
        if None in responses:
            break
    return answers


async def recover(
    ledger: Ledger,
    played: Round,
    acknowledged: dict[tuple[int, int], httpx.Response],
    kept_since_micros: int = 0,
) -> None:
    """Resend everything under the same keys, and again: one outcome each, byte for byte."""
    await ledger.assert_sound(kept_since_micros)
    first = await send(ledger.http, played.waves)
    booked_now: list[Request] = []
    now: list[httpx.Response] = []
    for number, wave in enumerate(played.waves):
        for at, request in enumerate(wave):
            if request.key is None:
                continue
            before, again = acknowledged.get((number, at)), first[number, at]
            if before is not None:
                _assert_replayed(request, before, again)
            elif "idempotency-replayed" not in again.headers:
                booked_now.append(request)
                now.append(again)
    second = await send(ledger.http, [booked_now])
    for number, before in enumerate(now):
        _assert_replayed(booked_now[number], before, second[0, number])
    await _assert_booked_once(ledger, played)


def _assert_replayed(request: Request, before: httpx.Response, again: httpx.Response) -> None:
    assert again.content == before.content, request
    assert again.headers.get("idempotency-replayed") == "true", request


async def _assert_booked_once(ledger: Ledger, played: Round) -> None:
    """Everything of a round is in the ledger, and nothing twice."""
    requests = [request for wave in played.waves for request in wave if request.key is not None]
    booked = Counter(
        row.idempotency_key for row in await ledger.rows("SELECT idempotency_key FROM transactions")
    )
    references = Counter(
        row.request_ref for row in await ledger.rows("SELECT request_ref FROM holds")
    )
    for request in requests:
        is_hold = request.path == "/holds"
        assert booked[request.key] == int(request.status != 402 and not is_hold), request
        if is_hold:
            assert request.body is not None
            assert references[request.body["request_ref"]] == 1, request
    standings = await ledger.rows("SELECT user_id, balance_nanos, held_nanos FROM accounts")
    found = {
        row.user_id: (row.balance_nanos / CENT, row.held_nanos / CENT)
        for row in standings
        if row.user_id in played.standings
    }
    assert found == played.standings, found
    events = await ledger.rows("SELECT kind, user_id FROM webhook_events")
    told = Counter(row.kind for row in events if row.user_id in played.standings)
    assert told == played.events, told
