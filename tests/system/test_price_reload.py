"""The operator changes the prices of a gateway that is serving."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.prices import SHIPPED
from support.stack import CLIENT_KEY, INPUT_USD, MODEL, OUTPUT_USD, Stack, running_stack, say

WORKERS = 2
OTHER_MODEL = "gemini-2.5-pro"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A system of its own, with a catalogue of its own and more than one worker."""
    put_prices(tmp_path, "first", factor=1)
    settings = {"PRICE_CATALOG_PATH": str(tmp_path / "prices.json"), "WORKERS": str(WORKERS)}
    url = f"sqlite+aiosqlite:///{tmp_path / 'ledger.sqlite3'}"
    with running_stack(tmp_path, url, settings) as stack:
        stack.proxy.wait_for_log("Application startup complete", times=WORKERS)
        yield stack


def put_prices(folder: Path, version: str, *, factor: int, without: str = "") -> None:
    """Put a catalogue in place at once, in which `MODEL` costs so many times its list price."""
    catalog = json.loads(SHIPPED.read_text())
    catalog["version"] = version
    catalog["models"].pop(without, None)
    (rates,) = catalog["models"][MODEL]["rates"]
    rates["input"], rates["output"] = rates["input"] * factor, rates["output"] * factor
    new = folder / "new.json"
    new.write_text(json.dumps(catalog))
    new.replace(folder / "prices.json")


def prices_told(stack: Stack) -> Any:
    answer = stack.http(stack.proxy.url, CLIENT_KEY).get("/metrics")
    return answer.json()["prices"]


def test_new_prices_hold_for_new_requests_and_bad_ones_for_none(stack: Stack) -> None:
    account = stack.account("5")
    assert prices_told(stack)["workers_by_version"] == {"first": WORKERS}
    running = stack.openai().chat.completions.create(
        model=MODEL,
        messages=say("[[sim gate=reload tokens=40 thoughts=0]] go"),
        user=account,
        stream=True,
        stream_options={"include_usage": True},
    )
    stack.release("reload", 5)
    next(running)

    assert OTHER_MODEL in models(stack)
    put_prices(stack.folder, "second", factor=2, without=OTHER_MODEL)

    stack.proxy.wait_for_log("price_catalog_replaced", times=WORKERS)
    assert prices_told(stack) == {
        "workers_by_version": {"second": WORKERS},
        "reload_failures": 0,
        "usage_without_price": 0,
    }
    assert_charged(stack, account, complete(stack, account), "second", factor=2)
    assert MODEL in models(stack)
    assert OTHER_MODEL not in models(stack)

    (stack.folder / "prices.json").write_text("{")

    stack.proxy.wait_for_log("price_catalog_refused", times=WORKERS)
    told = prices_told(stack)
    assert told["workers_by_version"] == {"second": WORKERS}
    assert told["reload_failures"] == WORKERS
    assert_charged(stack, account, complete(stack, account), "second", factor=2)

    stack.open_gate("reload")
    *_, last = running
    assert last.usage is not None
    assert last.usage.completion_tokens == 40
    assert_charged(stack, account, last.usage, "first", factor=1)
    stack.assert_ledger_is_sound()


def models(stack: Stack) -> set[str]:
    return {model.id for model in stack.openai().models.list()}


def complete(stack: Stack, account: str) -> Any:
    """Complete once and return the usage."""
    answer = stack.openai().chat.completions.create(
        model=MODEL, messages=say("[[sim tokens=10 thoughts=0]] go"), user=account
    )
    assert answer.usage is not None
    return answer.usage


def assert_charged(stack: Stack, account: str, usage: Any, version: str, *, factor: int) -> None:
    """The latest charge is for this usage, at the prices of that catalogue."""
    charge = stack.transactions(account)[0]
    list_price = usage.prompt_tokens * INPUT_USD + usage.completion_tokens * OUTPUT_USD
    assert charge["price"]["catalog_version"] == version
    assert Decimal(charge["price"]["exact_cost_pico"]).scaleb(-12) == list_price * factor
    assert abs(Decimal(charge["amount"])) == list_price * factor
