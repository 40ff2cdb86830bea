"""A deploy in the middle of streams: who can be finished is, the others are told and charged."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import openai
import pytest

from support.stack import INPUT_USD, MODEL, OUTPUT_USD, Stack, running_stack, say

STREAMS = 50
TOKENS = 20
# Of those that are not finished; the gate lets no more through.
RELEASED = 4
DRAIN_SECONDS = 8


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """A system whose proxy may be ended."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite3'}"
    settings = {"DRAIN_SECONDS": str(DRAIN_SECONDS), "ON_DISCONNECT": "cancel"}
    with running_stack(tmp_path, url, settings) as stack:
        yield stack


class Answer:
    """What one client has received."""

    def __init__(self) -> None:
        self.tokens = 0
        self.finish: str | None = None
        self.usage: openai.types.CompletionUsage | None = None
        self.error: str | None = None


def read(stack: Stack, account: str, gate: str) -> Answer:
    """Read a stream to its end, whatever that is."""
    answer = Answer()
    stream = stack.openai().chat.completions.create(
        model=MODEL,
        messages=say(f"[[sim tokens={TOKENS} thoughts=0 stall_after={RELEASED} gate={gate}]]"),
        stream=True,
        stream_options={"include_usage": True},
        user=account,
    )
    try:
        for chunk in stream:
            answer.usage = chunk.usage or answer.usage
            for choice in chunk.choices:
                answer.tokens += bool(choice.delta.content)
                answer.finish = choice.finish_reason or answer.finish
    except openai.APIError as error:
        answer.error = error.code
    return answer


def test_streams_end_or_are_told_and_all_are_charged_exactly(own_stack: Stack) -> None:
    accounts = {gate: [own_stack.account("1") for _ in range(STREAMS // 2)] for gate in "ab"}
    with ThreadPoolExecutor(STREAMS) as threads:
        reading = {
            gate: [threads.submit(read, own_stack, account, gate) for account in accounts[gate]]
            for gate in accounts
        }
        for gate in accounts:
            own_stack.wait_at_gate(gate, STREAMS // 2)
        own_stack.proxy.process.send_signal(signal.SIGTERM)
        own_stack.proxy.wait_for_log('"draining"')
        own_stack.open_gate("a")
        answers = {gate: [done.result() for done in reading[gate]] for gate in reading}
    assert own_stack.proxy.wait() == 0

    assert {(answer.finish, answer.error) for answer in answers["a"]} == {("stop", None)}
    assert {(answer.finish, answer.error) for answer in answers["b"]} == {
        (None, "server_is_overloaded")
    }
    for account, answer in zip(accounts["a"], answers["a"], strict=True):
        assert answer.usage is not None
        assert answer.usage.completion_tokens == TOKENS
        assert charged(own_stack, account) == price(answer.usage.prompt_tokens, TOKENS)
    # Both gates' prompts are equally long.
    (prompt_tokens,) = {answer.usage.prompt_tokens for answer in answers["a"] if answer.usage}
    assert {charged(own_stack, account) for account in accounts["b"]} == {
        price(prompt_tokens, RELEASED)
    }
    assert not [line for line in own_stack.proxy.lines if "Traceback" in line]
    own_stack.assert_ledger_is_sound()


def price(prompt_tokens: int, tokens: int) -> Decimal:
    return prompt_tokens * INPUT_USD + tokens * OUTPUT_USD


def charged(stack: Stack, account: str) -> Decimal:
    """Return the one charge of an account on which nothing is held any more."""
    assert stack.balance(account)["held"] == 0
    (charge,) = stack.transactions(account)
    return -Decimal(charge["amount"])
