"""Requests that a limit per address refused are counted by that limit."""

from support.kit_app import AUTHORIZED, StartApp


def test_a_refusal_is_counted_by_the_limit_that_refused_it(start_app: StartApp) -> None:
    client = start_app(rate_limit_per_minute=60, rate_limit_completions_per_minute=2)
    for _ in range(5):
        client.post("/v1/completions", headers=AUTHORIZED)

    metrics = client.get("/metrics", headers={"accept": "text/plain"}).text

    assert 'http_server_rate_limited_total{limit="completions"} 3.0' in metrics
    assert 'limit="requests"' not in metrics
