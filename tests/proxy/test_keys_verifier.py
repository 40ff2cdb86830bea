"""What the proxy believes of an issued key, for how long, and what it costs the ledger."""

import asyncio
import gc
from collections.abc import AsyncIterator

import httpx
import pytest
import respx

from ai_proxy_service.core.errors import KeyCheckUnavailableError
from ai_proxy_service.core.issued_keys import IssuedKey
from ai_proxy_service.core.key_refusals import KeyRefusals
from ai_proxy_service.core.metrics import ProxyMetrics
from ai_proxy_service.services import credits_api, key_verifier
from ai_proxy_service.services.credits_api import CreditsApi
from ai_proxy_service.services.key_verifier import KeyVerifier
from support.billing_bench import URL, problem
from support.issued_keys import Clock, accepted, refused, some_key

PATH = "/api/v1/keys/verify"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def verifier(
    metrics: ProxyMetrics, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[KeyVerifier]:
    monkeypatch.setattr(credits_api, "RETRY_PAUSE_SECONDS", 0)
    api = CreditsApi(credits_api.connect(URL, "sk-credits"))
    yield KeyVerifier(api, metrics, KeyRefusals(metrics.keys), clock=clock)
    await api.aclose()


def checks(metrics: ProxyMetrics, outcome: str) -> float:
    return metrics.readings().total("gateway_key_checks_total", outcome=outcome)


async def test_an_accepted_key_is_known_with_all_that_it_may_do(
    verifier: KeyVerifier, ledger: respx.MockRouter, metrics: ProxyMetrics
) -> None:
    key = some_key()
    route = ledger.post(PATH).respond(
        json=accepted(allowed_models=["gemini-2.5-*"], rpm=60, tpm=1000, max_concurrent=2)
    )

    found = await verifier.verify(key)

    assert found == IssuedKey(
        name="0198c0de-0000-7000-8000-000000000000",
        scopes=frozenset({"chat", "models"}),
        account="ann",
        label="Ann's laptop",
        allowed_models=("gemini-2.5-*",),
        rpm=60,
        tpm=1000,
        max_concurrent=2,
    )
    assert route.calls.last.request.read() == httpx.Request("POST", URL, json={"key": key}).read()
    assert checks(metrics, "accepted") == 1


@pytest.mark.parametrize(
    ("verdict", "seconds"),
    [
        pytest.param(accepted(cache_seconds=10), 10, id="as long as the service says"),
        pytest.param(accepted(cache_seconds=3), 3, id="not past an end that is known"),
        pytest.param(accepted(cache_seconds=600), 10, id="10 s at most"),
        pytest.param(refused(cache_seconds=10), 5, id="a refusal for less"),
        pytest.param(refused(cache_seconds=2), 2, id="a refusal that ends sooner"),
    ],
)
async def test_a_verdict_is_gone_by_until_it_ends_and_no_longer(
    verifier: KeyVerifier,
    ledger: respx.MockRouter,
    clock: Clock,
    verdict: dict[str, object],
    seconds: float,
) -> None:
    key = some_key()
    route = ledger.post(PATH).respond(json=verdict)
    first = await verifier.verify(key)

    clock.seconds += seconds - 0.001
    assert await verifier.verify(key) == first
    assert route.call_count == 1
    clock.seconds += 0.001
    assert await verifier.verify(key) == first
    assert route.call_count == 2


async def test_a_verdict_of_no_time_is_for_one_request(
    verifier: KeyVerifier, ledger: respx.MockRouter
) -> None:
    key = some_key()
    route = ledger.post(PATH).respond(json=accepted(cache_seconds=0))

    assert [await verifier.verify(key) is None for _ in range(2)] == [False, False]
    assert route.call_count == 2


async def test_the_time_of_a_verdict_begins_when_it_is_asked_for(
    verifier: KeyVerifier, ledger: respx.MockRouter, clock: Clock
) -> None:
    """The answer may be long on its way: the key may have been revoked meanwhile."""
    key = some_key()

    def late(_request: httpx.Request) -> httpx.Response:
        clock.seconds += 4
        return httpx.Response(200, json=accepted())

    route = ledger.post(PATH).mock(side_effect=late)
    await verifier.verify(key)

    clock.seconds += 6
    await verifier.verify(key)

    assert route.call_count == 2


async def test_a_revoked_key_is_refused_once_its_verdict_has_ended(
    verifier: KeyVerifier, ledger: respx.MockRouter, clock: Clock
) -> None:
    key = some_key()
    ledger.post(PATH).respond(json=accepted())
    assert await verifier.verify(key) is not None
    ledger.post(PATH).respond(json=refused(reason="revoked"))

    clock.seconds += 10

    assert await verifier.verify(key) is None


async def test_what_can_be_no_issued_key_is_refused_without_a_question(
    verifier: KeyVerifier, ledger: respx.MockRouter
) -> None:
    key = some_key()
    wrong = ["", "sk-client", key[:-1], key + "a", key[:-1] + ("a" if key[-1] != "a" else "b")]

    assert [await verifier.verify(text) for text in wrong] == [None] * len(wrong)
    assert not ledger.calls


async def test_many_requests_with_one_key_ask_once(
    verifier: KeyVerifier, ledger: respx.MockRouter
) -> None:
    """The first to leave does not take the answer away from the others."""
    answer = asyncio.Event()
    asked = asyncio.Event()

    async def slowly(_request: httpx.Request) -> httpx.Response:
        asked.set()
        await answer.wait()
        return httpx.Response(200, json=accepted())

    route = ledger.post(PATH).mock(side_effect=slowly)
    key = some_key()
    first = asyncio.create_task(verifier.verify(key))
    await asked.wait()
    others = [asyncio.create_task(verifier.verify(key)) for _ in range(50)]
    await asyncio.sleep(0)

    first.cancel()
    answer.set()
    found = await asyncio.gather(*others)

    assert {key.account for key in found if key} == {"ann"}
    assert len(found) == 50
    assert route.call_count == 1


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param({"side_effect": httpx.ConnectError("gone")}, id="unreachable"),
        pytest.param({"return_value": httpx.Response(500)}, id="failing"),
        pytest.param({"return_value": problem(403, "forbidden")}, id="refusing the proxy itself"),
        pytest.param({"return_value": problem(422, "invalid")}, id="not understanding"),
        pytest.param({"return_value": httpx.Response(200, json={"active": 1})}, id="nonsense"),
        pytest.param(
            {"return_value": httpx.Response(200, json=accepted(account=""))}, id="no account"
        ),
    ],
)
async def test_without_a_certain_answer_nobody_is_let_in_and_nobody_refused(
    verifier: KeyVerifier,
    ledger: respx.MockRouter,
    clock: Clock,
    metrics: ProxyMetrics,
    failure: dict[str, object],
) -> None:
    known, unknown = some_key(), some_key()
    ledger.post(PATH).respond(json=accepted())
    await verifier.verify(known)
    ledger.post(PATH).mock(**failure)  # type: ignore[arg-type]  # either of its arguments

    assert await verifier.verify(known) is not None, "known until its verdict ends"
    with pytest.raises(KeyCheckUnavailableError):
        await verifier.verify(unknown)
    clock.seconds += 10
    with pytest.raises(KeyCheckUnavailableError) as caught:
        await verifier.verify(known)

    assert caught.value.status == 503
    assert checks(metrics, "failed") == 2


async def test_guesses_leave_connections_to_those_who_pay(
    verifier: KeyVerifier, ledger: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "_turns", asyncio.Semaphore(2))
    asking: list[int] = []
    most = 0

    async def slowly(_request: httpx.Request) -> httpx.Response:
        nonlocal most
        asking.append(1)
        most = max(most, len(asking))
        await asyncio.sleep(0)
        asking.pop()
        return httpx.Response(200, json=refused())

    ledger.post(PATH).mock(side_effect=slowly)

    found = await asyncio.gather(*(verifier.verify(some_key()) for _ in range(20)))

    assert found == [None] * 20
    assert most == 2


async def test_a_check_that_hangs_ends_as_unknown(
    verifier: KeyVerifier, ledger: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_verifier, "CHECK_SECONDS_MAX", 0.01)

    async def hang(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    ledger.post(PATH).mock(side_effect=hang)
    key = some_key()

    with pytest.raises(KeyCheckUnavailableError):
        await verifier.verify(key)
    monkeypatch.undo()
    ledger.post(PATH).respond(json=accepted())

    assert await verifier.verify(key) is not None, "it is not remembered as refused"


async def test_guesses_neither_grow_the_memory_nor_push_out_keys_in_use(
    verifier: KeyVerifier, ledger: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier._refused, "_most", 3)
    in_use = some_key()
    ledger.post(PATH).respond(json=accepted())
    await verifier.verify(in_use)
    route = ledger.post(PATH).respond(json=refused())
    asked = route.call_count
    guesses = [some_key() for _ in range(10)]

    for guess in guesses:
        assert await verifier.verify(guess) is None
    assert await verifier.verify(in_use) is not None
    assert await verifier.verify(guesses[-1]) is None

    assert route.call_count - asked == 10
    assert len(verifier._refused._kept) == 3


async def test_no_key_is_kept_in_memory(verifier: KeyVerifier, ledger: respx.MockRouter) -> None:
    key = some_key()
    ledger.post(PATH).respond(json=accepted())
    await verifier.verify(key)
    await asyncio.sleep(0)

    kept: list[object] = [verifier]
    seen: set[int] = set()
    while kept:
        found = kept.pop()
        if id(found) in seen or isinstance(found, type | httpx.AsyncClient):
            continue
        seen.add(id(found))
        assert not (isinstance(found, str) and key[12:] in found)
        if isinstance(found, KeyVerifier | dict | tuple | list | IssuedKey) or (
            type(found).__module__ == key_verifier.__name__
        ):
            kept += gc.get_referents(found)
    assert len(seen) > 10
