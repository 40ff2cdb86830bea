"""No key, password, prompt or answer is shown, whatever fails: in no line, error, metric or store.

All logs are at DEBUG, asyncio's debug mode included. Each process is searched here and, as every
process of the suite, at its end (support/canaries.py).
"""

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.canaries import ANSWER, ARGUMENT, PROMPT, TOKEN, LeakError, assert_nothing_leaked
from support.hostile_gemini import ORDERS
from support.loud import (
    CLIENT_KEY,
    TIMEOUT_SECONDS,
    Loud,
    ask,
    assert_silent,
    conversation,
    loud_system,
    numbers,
    send,
)
from support.postgres_cluster import free_port
from support.processes import ServiceProcess
from support.stack import MODEL


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loud]:
    with loud_system(tmp_path_factory.mktemp("loud")) as started:
        yield started


@pytest.mark.parametrize("name", ["API_KEYS", "DATABASE_URL", "a prompt"])
def test_the_search_finds_what_a_process_shows(name: str) -> None:
    secret = {"API_KEYS": "sk-Searched7c5b2e8460", "DATABASE_URL": "hid/den%40word"}.get(name, "")
    env = {"API_KEYS": f"x:{secret}", "DATABASE_URL": f"postgresql://u:{secret}@h/d"}
    shown = {"API_KEYS": "Searched7c5b2e8460", "DATABASE_URL": "hid/den@word"}.get(name, "[[sim ")
    process = ServiceProcess("python", env if secret else {}, "-c", f"print('so: {shown}!')")

    with pytest.raises(LeakError) as found:
        process.wait()

    assert name in str(found.value)
    assert "so: <HERE>!" in str(found.value)
    assert shown not in str(found.value)


@pytest.mark.parametrize("client", ["rest", "sdk"])
def test_no_failure_of_gemini_shows_what_it_repeats(loud: Loud, client: str) -> None:
    process = loud.hostile[client]
    account = loud.stack.account("50")

    for order in ORDERS:
        for stream in (False, True):
            tool = {"name": "look", "description": PROMPT, "parameters": {"type": "object"}}
            answer = ask(
                process,
                user=account,
                stream=stream,
                messages=conversation(f"order={order}"),
                tools=[{"type": "function", "function": tool}],
            )
            assert answer.is_error or '"error"' in answer.text, (order, stream, answer.text)

    assert_silent(process)
    loud.stack.ledger.assert_nothing_leaked()


def test_no_refused_request_is_repeated(loud: Loud) -> None:
    process = loud.stack.proxy
    chat = "/v1/chat/completions"
    closed = f"http://127.0.0.1:{free_port()}/{TOKEN}.png?sig={TOKEN}"
    pictures = [closed, f"https://u:{TOKEN}@example.com/x", f"data:image/png;base64,{PROMPT}!"]
    refused: list[tuple[str, dict[str, Any]]] = [
        (chat, {"content": f'{{"model": "{MODEL}", "messages": [{{"content": "{PROMPT}'}),
        (chat, {"content": f'{{"messages": "{PROMPT}"}}'.encode() + b"\xff"}),
        (chat, {"json": {"model": MODEL, "messages": PROMPT}}),
        (chat, {"json": {"model": MODEL, "messages": [{"role": "narrator", "content": PROMPT}]}}),
        (chat, {"json": {"model": MODEL, "messages": conversation(""), "n": PROMPT}}),
        (chat, {"json": {"model": MODEL, "messages": conversation(""), "tool_choice": "some"}}),
        (chat, {"json": {"model": MODEL, "messages": conversation(""), "stop": [PROMPT, 1]}}),
        (f"{chat}?key={TOKEN}", {"json": {"model": MODEL, "messages": conversation("")}}),
        (f"/v1/nowhere?key={TOKEN}", {"json": {"prompt": PROMPT}}),
        (chat, {"json": {}, "headers": {"authorization": f"Bearer {TOKEN}"}}),
        (chat, {"json": {}, "headers": {"authorization": f"Basic {TOKEN}", "x-api-key": TOKEN}}),
        ("/v1/embeddings", {"json": {"model": "text-embedding-004", "input": {"x": PROMPT}}}),
        ("/v1/completions", {"json": {"model": MODEL, "prompt": {"x": PROMPT}}}),
    ]
    for url in pictures:
        part = {"type": "image_url", "image_url": {"url": url}}
        body = {"model": MODEL, "messages": [{"role": "user", "content": [part]}]}
        refused.append((chat, {"json": body}))

    for path, options in refused:
        answer = send(process, path, **options)
        assert answer.is_client_error, (path, options, answer.text)

    assert_silent(process)


def test_answers_are_kept_where_they_belong_and_nowhere_else(loud: Loud) -> None:
    """Prompts stand in no store, answers only in those for answers and tool calls (0008, 0015)."""
    stack = loud.stack
    account = stack.account("10")
    tool: dict[str, Any] = {"name": "look", "parameters": {"type": "object"}}
    orders = f'[[sim answer="{ANSWER}" tokens=4]]', f'[[sim call=look args="{{}}"]] {ARGUMENT}'
    for stream in (False, True):
        for order in orders:
            body: dict[str, Any] = {
                "model": MODEL,
                "user": account,
                "messages": conversation(order),
            }
            body.update(stream=stream, tools=[{"type": "function", "function": tool}])
            key = {"idempotency-key": f"key-{next(numbers)}"}
            answer = send(stack.proxy, "/v1/chat/completions", json=body, headers=key)
            assert answer.status_code == 200, answer.text
    with httpx.stream(
        "POST",
        f"{stack.proxy.url}/v1/chat/completions",
        json={
            "model": MODEL,
            "user": account,
            "stream": True,
            "messages": conversation("[[sim tokens=300]]"),
        },
        headers={"authorization": f"Bearer {CLIENT_KEY}", "x-request-id": "canary-left"},
        timeout=TIMEOUT_SECONDS,
    ) as left:
        next(left.iter_raw())
    stack.proxy.wait_for_log('"canary-left"')
    stack.ledger.wait_for_event(event="webhook_not_delivered")

    assert_silent(stack.proxy)
    stack.ledger.assert_nothing_leaked()
    kept = {file.name: _contents(file) for file in stack.folder.glob("*.sqlite3")}
    assert set(kept) == {
        "ledger.sqlite3",
        "usage.sqlite3",
        "outbox.sqlite3",
        "answers.sqlite3",
        "call-memory.sqlite3",
    }
    assert ANSWER in kept["answers.sqlite3"]
    assert_nothing_leaked(
        ((name, kept.pop(name)) for name in ("answers.sqlite3", "call-memory.sqlite3")),
        private_texts=False,
    )
    assert_nothing_leaked(kept.items())


def _contents(file: Path) -> str:
    """Return every value of every column of a database, texts and bytes alike."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        rows = itertools.chain.from_iterable(
            database.execute(f'SELECT * FROM "{name}"')  # noqa: S608 - the database's own names
            for (name,) in tables
        )
        return "\n".join(
            value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            for row in rows
            for value in row
        )
