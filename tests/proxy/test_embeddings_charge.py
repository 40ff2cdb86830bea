"""What an embedding costs where Gemini does not say how much it has read."""

from pathlib import Path

from support.asgi_exchange import running_app
from support.fakes import FakeBilling, FakeGemini
from support.orders import CATALOG

MODEL = "gemini-embedding-001"
PRICE = CATALOG.models[MODEL]
TOKEN_NANOS = PRICE.rates[0].input // 1_000
USD = 1_000_000_000


async def test_what_gemini_counts_is_charged(tmp_path: Path) -> None:
    gemini, billing = FakeGemini(tokens=7), FakeBilling(USD)
    async with running_app(tmp_path, gemini, billing) as app:
        answer = await app.post("/v1/embeddings", model=MODEL, input="a few words of text").end()

    assert answer.json()["usage"] == {"prompt_tokens": 7, "total_tokens": 7, "cost": "0.00000105"}
    (settlement,) = billing.settlements
    assert settlement.amount_nanos == 7 * TOKEN_NANOS
    assert "estimated" not in settlement.metadata


async def test_a_text_is_charged_for_no_more_than_the_model_reads_of_it(tmp_path: Path) -> None:
    gemini, billing = FakeGemini(tokens=25_000), FakeBilling(USD)
    async with running_app(tmp_path, gemini, billing) as app:
        answer = await app.post("/v1/embeddings", model=MODEL, input="word " * 25_000).end()

    assert answer.json()["usage"]["prompt_tokens"] == PRICE.context_tokens
    (settlement,) = billing.settlements
    assert settlement.amount_nanos == PRICE.context_tokens * TOKEN_NANOS
    assert settlement.metadata["estimated"] is True
