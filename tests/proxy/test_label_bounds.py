"""Whatever clients and Gemini say, the number of time series has a bound."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.core.upstream_metrics import OTHER, kind_of
from support.asgi_exchange import App, Exchange, running_app
from support.fakes import FakeBilling, FakeGemini, text_chunk

# Requests of each sort: models, paths, keys and accounts that nobody has heard of.
REQUESTS = int(os.environ.get("LABEL_BOUND_REQUESTS", "300"))
AT_ONCE = 50
MODEL = "gemini-2.5-flash"
CHAT = "/v1/chat/completions"
SAY: list[dict[str, str]] = [{"role": "user", "content": "hi"}]


def _sorts(app: App) -> list[Callable[[int], Exchange]]:
    """Return makers of requests; each one is different from all others."""
    return [
        lambda number: app.post(CHAT, model=f"made-up-{number}", messages=SAY),
        lambda number: app.get(f"/v1/made-up/{number}"),
        lambda number: app.get(
            "/v1/models", headers={"authorization": f"Bearer sk-made-up-{number:020}"}
        ),
        lambda number: app.post(CHAT, model=MODEL, messages=SAY, user=f"somebody-{number}"),
        lambda number: app.post(CHAT, model=MODEL, messages=SAY, temperature=f"wrong-{number}"),
    ]


async def _series(app: App) -> set[str]:
    exchange = await app.get("/metrics", headers={"accept": "text/plain"}).end()
    lines = exchange.body.decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


async def _ask(app: App, first: int, last: int) -> list[int | None]:
    """Make requests of each sort, and return the statuses of their answers."""
    statuses: list[int | None] = []
    for start in range(first, last, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, last))
        asked = [make(number) for make in _sorts(app) for number in numbers]
        await asyncio.gather(*(exchange.end() for exchange in asked))
        statuses += [exchange.status for exchange in asked]
    return statuses


async def test_what_nobody_has_heard_of_adds_no_time_series(tmp_path: Path) -> None:
    gemini = FakeGemini([text_chunk("hi", output=1, finish="STOP")])
    async with running_app(tmp_path, gemini, FakeBilling(10**15)) as app:
        await _ask(app, 0, 2)
        await _series(app)
        before = await _series(app)

        statuses = await _ask(app, 2, 2 + REQUESTS)
        after = await _series(app)

    assert {
        status: statuses.count(status) for status in sorted(map(int, filter(None, statuses)))
    } == {
        200: REQUESTS,
        400: 2 * REQUESTS,
        401: REQUESTS,
        404: REQUESTS,
    }
    assert after == before
    assert any('model="other"' in series for series in after)
    assert not any("made-up" in series or "somebody" in series for series in after)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("RESOURCE_EXHAUSTED", "resource_exhausted"),
        ("UNREACHABLE", "unreachable"),
        ("SOMETHING_NEW", OTHER),
    ],
)
def test_an_error_of_gemini_has_one_of_a_few_kinds(reason: str, kind: str) -> None:
    assert kind_of(GeminiError(500, reason, "text")) == kind
