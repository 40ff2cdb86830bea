"""What a quote says where the gateway's surroundings are hard to bring about."""

import pytest
import respx

from ai_proxy_service.core.authorisation import HoldPolicy
from ai_proxy_service.core.errors import BillingUnavailableError
from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.core.interfaces import Balance
from ai_proxy_service.core.quoting import Quoter
from ai_proxy_service.services.logging_billing import LoggingBillingService
from support.billing_bench import Parts, problem
from support.fakes import FakeBilling, FakeGemini
from support.orders import make_order

USD = 1_000_000_000


class CountingGemini(FakeGemini):
    """Counts ten tokens, or fails, and notes how often it was asked."""

    counted = 0
    error: GeminiError | None = None

    async def count_tokens(self, model: str, body: object) -> int:
        self.counted += 1
        if self.error is not None:
            raise self.error
        return 10


@pytest.fixture
def gemini() -> CountingGemini:
    return CountingGemini()


async def test_where_nothing_is_enforced_everything_is_allowed(gemini: CountingGemini) -> None:
    quoter = Quoter(gemini=gemini, billing=LoggingBillingService(), policy=HoldPolicy.WINDOWED)

    quote = await quoter.quote(make_order(max_output_tokens=100), count=False)

    assert (quote.balance, quote.refusal, quote.affordable_tokens) == (None, None, 100)
    assert gemini.counted == 0


@pytest.mark.parametrize(("policy", "counts"), [(HoldPolicy.WINDOWED, 0), (HoldPolicy.STRICT, 1)])
async def test_the_prompt_is_counted_where_the_authoriser_would(
    gemini: CountingGemini, policy: HoldPolicy, counts: int
) -> None:
    """0.1 USD pays for a window of 4,096 tokens, not for the worst case of 65,536."""
    quoter = Quoter(gemini=gemini, billing=FakeBilling(USD // 10), policy=policy)

    quote = await quoter.quote(make_order(), count=False)

    assert gemini.counted == counts
    assert quote.exact_tokens == (10 if counts else None)
    # 0.1 USD less the prompt of 116 tokens at most, or of 10, at 2,500 nano-USD a token
    assert quote.affordable_tokens == (39_998 if counts else 39_986)
    assert quote.refusal is None


async def test_a_count_above_the_bound_does_not_make_a_quote_dearer(
    gemini: CountingGemini,
) -> None:
    """What is charged for is bounded; a hold goes by the bound, too."""
    quoter = Quoter(gemini=gemini, billing=FakeBilling(USD), policy=HoldPolicy.WINDOWED)

    quote = await quoter.quote(make_order(prompt_bound_tokens=4), count=True)

    assert quote.exact_tokens == 10
    assert quote.items[0].quantity == 4


async def test_sound_is_quoted_at_its_own_price(gemini: CountingGemini) -> None:
    quoter = Quoter(gemini=gemini, billing=FakeBilling(USD), policy=HoldPolicy.WINDOWED)

    quote = await quoter.quote(make_order(audible=True), count=False)

    assert quote.items[0].unit_price_pico == 1_000_000


async def test_a_quote_is_not_guessed_where_the_account_is_not_known(
    gemini: CountingGemini,
) -> None:
    billing = FakeBilling(USD, unavailable=True)
    quoter = Quoter(gemini=gemini, billing=billing, policy=HoldPolicy.WINDOWED)

    with pytest.raises(BillingUnavailableError):
        await quoter.quote(make_order(), count=False)


async def test_a_quote_is_not_guessed_where_the_prompt_cant_be_counted(
    gemini: CountingGemini,
) -> None:
    gemini.error = GeminiError(503, "UNAVAILABLE", "no")
    quoter = Quoter(gemini=gemini, billing=FakeBilling(USD), policy=HoldPolicy.WINDOWED)

    with pytest.raises(GeminiError):
        await quoter.quote(make_order(), count=True)


async def test_an_account_s_balance_is_read(parts: Parts, ledger: respx.MockRouter) -> None:
    route = ledger.get("/api/v1/accounts/a%2Fb").respond(
        200, json={"available": "1.5", "spendable": "0.25", "status": "frozen"}
    )

    balance = await parts.service.balance("a/b")

    assert balance == Balance(1_500_000_000, 250_000_000, "frozen")
    assert route.called


async def test_an_older_ledger_knows_no_spend_limits(
    parts: Parts, ledger: respx.MockRouter
) -> None:
    ledger.get("/api/v1/accounts/alice").respond(200, json={"available": "1.5", "status": "open"})

    assert await parts.service.balance("alice") == Balance(1_500_000_000, 1_500_000_000)


async def test_an_unknown_account_has_nothing(parts: Parts, ledger: respx.MockRouter) -> None:
    ledger.get("/api/v1/accounts/alice").mock(return_value=problem(404, "account_not_found"))

    assert await parts.service.balance("alice") == Balance(0, 0)


@pytest.mark.parametrize(
    ("status", "code"), [(401, "x"), (404, "not_found"), (422, "bad"), (500, "x"), (503, "x")]
)
async def test_anything_else_is_not_taken_for_an_empty_account(
    parts: Parts, ledger: respx.MockRouter, status: int, code: str
) -> None:
    ledger.get("/api/v1/accounts/alice").mock(return_value=problem(status, code))

    with pytest.raises(BillingUnavailableError):
        await parts.service.balance("alice")


@pytest.mark.parametrize("answer", [{}, {"available": "much", "status": "open"}])
async def test_an_answer_that_makes_no_sense_is_not_believed(
    parts: Parts, ledger: respx.MockRouter, answer: dict[str, str]
) -> None:
    ledger.get("/api/v1/accounts/alice").respond(200, json=answer)

    with pytest.raises(BillingUnavailableError):
        await parts.service.balance("alice")
