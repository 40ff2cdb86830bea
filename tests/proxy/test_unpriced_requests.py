"""What has no price is refused before anything is held, and Gemini is not asked."""

from pathlib import Path
from typing import Any

import pytest

from support.asgi_exchange import running_app
from support.fakes import FakeBilling, FakeGemini

USD = 1_000_000_000
TEXT_MODEL = "gemini-2.5-flash"
# It can't search, and has no service tier but the standard one.
PLAIN_MODEL = "gemini-2.0-flash"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/quote"])
@pytest.mark.parametrize(
    ("model", "fields", "unsupported", "param"),
    [
        ("gemini-9-free", {}, set(), "model"),
        (TEXT_MODEL, {"modalities": ["audio"]}, set(), "modalities"),
        (TEXT_MODEL, {"modalities": ["image"]}, set(), "modalities"),
        (TEXT_MODEL, {"audio": {"voice": "alloy", "format": "wav"}}, set(), "audio"),
        (PLAIN_MODEL, {"web_search_options": {}}, set(), "web_search_options"),
        (PLAIN_MODEL, {"google": {"tools": [{"google_search": {}}]}}, set(), "google.tools"),
        (TEXT_MODEL, {"google": {"tools": [{"google_maps": {}}]}}, set(), "google.tools[0]"),
        (PLAIN_MODEL, {"service_tier": "flex"}, set(), "service_tier"),
        (PLAIN_MODEL, {"service_tier": "priority"}, set(), "service_tier"),
        # a client that can't ask for a tier would be charged for one that it does not get
        (TEXT_MODEL, {"service_tier": "flex"}, {"service_tier"}, "service_tier"),
    ],
)
async def test_it_is_refused_by_its_name(
    *,
    tmp_path: Path,
    path: str,
    model: str,
    fields: dict[str, Any],
    unsupported: set[str],
    param: str,
) -> None:
    gemini = FakeGemini(unsupported=frozenset(unsupported))
    billing = FakeBilling(USD)
    messages = [{"role": "user", "content": "hi"}]

    async with running_app(tmp_path, gemini, billing) as app:
        answer = await app.post(path, model=model, messages=messages, **fields).end()

    assert answer.status == 400
    assert answer.json()["error"]["param"] == param
    assert gemini.bodies == []
    assert billing.available_nanos == USD
