"""Per address: so many requests a minute on everything, fewer on completions."""

import pytest
from prometheus_client import CollectorRegistry

from service_kit.metrics import LimitStoreMetrics
from service_kit.rate_limit import IpRateLimiter, RateRule, address_bucket, duration_text
from service_kit.store_health import StoreHealth
from support.kit_app import AUTHORIZED, StartApp


def test_the_31st_completion_in_a_minute_is_refused(start_app: StartApp) -> None:
    """The route comes from `include_router`, which slowapi's own middlewares overlook."""
    client = start_app(rate_limit_per_minute=1000)

    statuses = [client.post("/v1/completions", headers=AUTHORIZED).status_code for _ in range(31)]

    assert statuses == [200] * 30 + [429]


def test_the_61st_request_of_any_kind_is_refused(start_app: StartApp) -> None:
    client = start_app()

    statuses = [
        client.get(f"/v1/items/{number}", headers=AUTHORIZED).status_code for number in range(61)
    ]

    assert statuses == [200] * 60 + [429]


def test_what_the_completions_limit_refuses_does_not_use_up_the_other_one(
    start_app: StartApp,
) -> None:
    client = start_app(rate_limit_per_minute=5, rate_limit_completions_per_minute=2)

    completions = [
        client.post("/v1/completions", headers=AUTHORIZED).status_code for _ in range(10)
    ]
    others = [client.get("/v1/whoami", headers=AUTHORIZED).status_code for _ in range(4)]

    assert completions == [200, 200] + [429] * 8
    assert others == [200, 200, 200, 429]


def test_wrong_keys_are_counted_so_that_guessing_is_limited(start_app: StartApp) -> None:
    client = start_app(rate_limit_per_minute=3)

    statuses = [
        client.get("/v1/whoami", headers={"authorization": f"Bearer sk-guess-{number}"}).status_code
        for number in range(5)
    ]

    assert statuses == [401, 401, 401, 429, 429]


def test_health_probes_are_never_refused(start_app: StartApp) -> None:
    client = start_app(rate_limit_per_minute=1)

    statuses = {client.get(path).status_code for path in ("/health", "/ready") * 5}

    assert statuses == {200}


def test_every_answer_says_where_the_client_stands(start_app: StartApp) -> None:
    client = start_app(rate_limit_per_minute=60, rate_limit_completions_per_minute=2)

    first = client.post("/v1/completions", headers=AUTHORIZED)
    missing = client.get("/v1/nowhere", headers=AUTHORIZED)
    second = client.post("/v1/completions", headers=AUTHORIZED)
    refused = client.post("/v1/completions", headers=AUTHORIZED)

    def standing(name: str) -> list[str]:
        return [
            response.headers[f"x-ratelimit-{name}-requests"]
            for response in (first, missing, second, refused)
        ]

    assert standing("limit") == ["2", "60", "2", "2"]
    assert standing("remaining") == ["1", "58", "0", "0"]
    assert all(text in {"1m0s", "59s", "58s"} for text in standing("reset"))


def test_a_refusal_says_which_limit_and_when_to_come_back(start_app: StartApp) -> None:
    client = start_app(rate_limit_completions_per_minute=1)
    client.post("/v1/completions", headers=AUTHORIZED)

    refused = client.post("/v1/completions", headers=AUTHORIZED)

    seconds = int(refused.headers["retry-after"])
    assert 1 <= seconds <= 60
    assert 0 < int(refused.headers["retry-after-ms"]) <= 60_000
    assert refused.json()["code"] == "rate_limit_exceeded"
    assert "1 completions per minute" in refused.json()["message"]
    assert f"try again in {seconds}s" in refused.json()["message"]


def test_a_stream_passes_chunk_by_chunk(start_app: StartApp) -> None:
    """The second word is only made once the first has been read: nothing may collect them."""
    client = start_app()

    with client.stream("GET", "/v1/stream", headers=AUTHORIZED) as response:
        chunks = response.iter_text()
        received = [next(chunks)]
        for word in ("second", "third"):
            client.post("/v1/stream/next", params={"word": word}, headers=AUTHORIZED)
            received.append(next(chunks))
        client.post("/v1/stream/next", params={"word": ""}, headers=AUTHORIZED)
        rest = list(chunks)

    assert received == ["first", "second", "third"]
    assert rest == []
    assert response.headers["x-ratelimit-remaining-requests"] == "59"


def test_limits_can_be_turned_off(start_app: StartApp) -> None:
    client = start_app(rate_limit_enabled=False, rate_limit_per_minute=1)

    responses = [client.get("/v1/whoami", headers=AUTHORIZED) for _ in range(5)]

    assert {response.status_code for response in responses} == {200}
    assert "x-ratelimit-limit-requests" not in responses[0].headers


def _in_memory(rule: RateRule, workers: int = 1) -> IpRateLimiter:
    health = StoreHealth(LimitStoreMetrics(CollectorRegistry()), "memory://")
    return IpRateLimiter([rule], storage_uri="memory://", health=health, workers=workers)


async def test_addresses_are_counted_apart() -> None:
    limiter = _in_memory(RateRule("requests", 1))

    first = await limiter.check("192.0.2.1", "/")
    again = await limiter.check("192.0.2.1", "/")
    other = await limiter.check("192.0.2.2", "/")

    assert first is not None
    assert again is not None
    assert other is not None
    assert (first.allowed, again.allowed, other.allowed) == (True, False, True)


async def test_a_path_without_a_rule_has_no_limit() -> None:
    limiter = _in_memory(RateRule("x", 1, frozenset({"/x"})))

    assert await limiter.check("192.0.2.1", "/y") is None


async def test_workers_that_count_each_for_itself_share_the_limit() -> None:
    """Together they must not let more through than the machine's limit."""
    limiter = _in_memory(RateRule("requests", 30), workers=4)

    states = [await limiter.check("192.0.2.1", "/") for _ in range(8)]

    assert [state.allowed for state in states if state] == [True] * 7 + [False]
    assert {state.rule.per_minute for state in states if state} == {7}


@pytest.mark.parametrize(
    ("address", "bucket"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", "unknown"),
    ],
)
def test_an_ipv6_network_counts_as_one_client(address: str, bucket: str) -> None:
    assert address_bucket(address) == bucket


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0121, "13ms"),
        (0.9999, "1s"),
        (1, "1s"),
        (1.2, "2s"),
        (59.5, "1m0s"),
        (360, "6m0s"),
        (61, "1m1s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_an_accepted_key_can_be_left_out_of_the_count(start_app: StartApp) -> None:
    """A service whose callers are the operator's own limits only those who guess keys."""
    client = start_app(rate_limit_per_minute=2, limit_known_callers=False)

    known = [client.get("/v1/whoami", headers=AUTHORIZED).status_code for _ in range(5)]
    unknown = [client.get("/v1/whoami").status_code for _ in range(3)]

    assert known == [200] * 5
    assert unknown == [401, 401, 429]


def test_without_keys_everybody_is_a_known_caller(start_app: StartApp) -> None:
    client = start_app(rate_limit_per_minute=2, limit_known_callers=False, auth_enabled=False)

    statuses = [client.get("/v1/items/1").status_code for _ in range(5)]

    assert statuses == [200] * 5
