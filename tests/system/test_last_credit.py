"""The last credit of an account, and far more requests at once than it pays for.

Two proxies and two credits services share one PostgreSQL. Each answer's usage is taken from the
simulator's own record, and each charge is reckoned again from it.
`LAST_CREDIT_REQUESTS=1000` is the long form; `-s` shows the figures.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.last_credit import (
    SHARE_USED_LEAST,
    SHORTFALL_SHARE_MOST,
    assert_never_overdrawn,
    assert_nothing_is_left_open,
    journal,
    use_up,
)
from support.many_asks import Ask, Told, ask_all, mixed, short
from support.pair import running_pair
from support.stack import Stack

REQUESTS = int(os.environ.get("LAST_CREDIT_REQUESTS", "300"))


@pytest.mark.timeout(600)
def test_a_window_at_a_time_the_last_credit_is_used_up_and_never_more(tmp_path: Path) -> None:
    with running_pair(tmp_path, {"HOLD_POLICY": "windowed"}, 4 * REQUESTS) as pair:
        used, shortfall = use_up(pair.stack, pair.proxies, "windowed, mixed", mixed(REQUESTS))
        assert SHARE_USED_LEAST <= used <= 1
        # What Gemini had sent when it was stopped, on record for the operator.
        assert shortfall < SHORTFALL_SHARE_MOST

        used, shortfall = use_up(pair.stack, pair.proxies, "windowed, short", short(REQUESTS))
        assert SHARE_USED_LEAST <= used <= 1
        assert shortfall == 0


@pytest.mark.timeout(600)
def test_with_worst_cases_held_nothing_is_served_that_is_not_paid(tmp_path: Path) -> None:
    with running_pair(tmp_path, {"HOLD_POLICY": "strict"}, 4 * REQUESTS) as pair:
        used, shortfall = use_up(pair.stack, pair.proxies, "strict, mixed", mixed(REQUESTS))
        assert 0 < used <= 1
        assert shortfall == 0


def test_fifty_short_answers_side_by_side_need_no_fifty_worst_cases(stack: Stack) -> None:
    """All of them are running before the first may end; their worst cases cost 8.19 USD."""
    account = stack.account("0.6")

    asks = [
        Ask(f"{account}-{number}", 20, None, None, streamed=number % 2 == 0, gate=account)
        for number in range(50)
    ]

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(lambda: asyncio.run(ask_all([stack.proxy], account, asks)))
        try:
            stack.wait_at_gate(account, len(asks))
        finally:
            stack.open_gate(account)
        answers = asking.result()

    assert list(answers.values()) == [Told(200, output_tokens=20)] * 50
    charges = stack.transactions(account)
    assert len(charges) == 50
    assert_never_overdrawn(journal(stack, account))
    assert_nothing_is_left_open(stack, account)
