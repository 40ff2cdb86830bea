"""Whether everything that a bank told its clients is true."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from decimal import Decimal

from credits.client import CreditsClient, Json
from faults.bank import CLIENTS, USERS, Bank, Operation

_BOOKED_AS = {"bill": "charge", "capture": "charge", "topup": "topup", "refund": "refund"}


async def resolve(bank: Bank) -> int:
    """Learn by their keys what became of all unknown operations; return how many there were."""
    unknown = [operation for operation in bank.history if operation.is_unknown]
    await _in_parallel(unknown, bank.settle)
    assert not [operation for operation in bank.history if operation.is_unknown]
    return len(unknown)


async def replay(bank: Bank) -> None:
    """Send every remembered operation again: `Operation.hear` insists on the same answer."""
    remembered = [o for o in bank.history if o.key is not None and o.settled is not None]

    async def again(operation: Operation) -> None:
        answer = await bank.send(operation)
        assert answer is not None, operation
        assert answer.headers.get("idempotency-replayed") == "true", operation

    await _in_parallel(remembered, again)


async def _in_parallel(
    operations: list[Operation], send: Callable[[Operation], Awaitable[None]]
) -> None:
    waiting = iter(operations)

    async def sender() -> None:
        for operation in waiting:
            await send(operation)

    async with asyncio.TaskGroup() as senders:
        for _ in range(CLIENTS):
            senders.create_task(sender())


def assert_true(bank: Bank, client: CreditsClient) -> None:
    """Compare what was answered with the ledger, account by account."""
    journals = {user_id: client.transactions(user_id) for user_id in USERS}
    booked = {
        transaction["transaction_id"]: (user_id, transaction)
        for user_id, journal in journals.items()
        for transaction in journal
    }
    claimed: Counter[str] = Counter()
    expected: defaultdict[str, Decimal] = defaultdict(Decimal)
    spent: defaultdict[str, Decimal] = defaultdict(Decimal)
    for operation in bank.history:
        answer = operation.answer
        if operation.kind not in _BOOKED_AS or answer is None:
            continue
        claimed[answer["transaction_id"]] += 1
        user_id, transaction = booked[answer["transaction_id"]]
        effect = _effect(operation, answer)
        assert user_id == operation.user_id, operation
        _assert_same(operation, answer, transaction, effect)
        expected[user_id] += effect
        if transaction["kind"] == "charge":
            spent[user_id] -= effect
    assert all(count == 1 for count in claimed.values()), "one transaction, two operations"
    unclaimed = [
        transaction
        for _user_id, transaction in booked.values()
        if transaction["kind"] in _BOOKED_AS.values()
        and transaction["transaction_id"] not in claimed
    ]
    assert not unclaimed, "booked, and never acknowledged to anybody"
    for user_id in USERS:
        account = client.account(user_id)
        assert Decimal(account["balance"]) == expected[user_id], user_id
        assert Decimal(account["spent"]["total"]) == spent[user_id], user_id
    client.assert_sound()


def _effect(operation: Operation, answer: Json) -> Decimal:
    """Return what the answer says was done to the balance."""
    amount = Decimal(answer["amount"])
    return -amount if operation.kind in {"bill", "capture"} else amount


def _assert_same(operation: Operation, answer: Json, booked: Json, effect: Decimal) -> None:
    """The transaction has the figures that were answered."""
    assert booked["kind"] == _BOOKED_AS[operation.kind], operation
    assert Decimal(booked["amount"]) == effect, operation
    assert booked["balance_after"] == answer["balance"], operation
    assert booked["held_after"] == answer["held"], operation
    assert booked["seq"] == answer["seq"], operation
    assert booked["booked_at"] == answer["booked_at"], operation
    if operation.kind in {"bill", "capture"}:
        assert booked["hold_id"] == answer["hold_id"], operation
