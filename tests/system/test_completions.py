"""What a developer with the OpenAI SDK sees, and what it costs."""

from decimal import Decimal

import httpx
import openai
import pytest

from support.processes import ServiceProcess
from support.stack import CLIENT_KEY, MODEL, Stack, price_usd, proxy_env, say


def test_a_call_without_a_key_is_refused_and_one_with_it_is_served(any_stack: Stack) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        any_stack.openai(key="sk-wrong-000000000000").models.list()
    assert caught.value.code == "invalid_api_key"

    answer = any_stack.openai().chat.completions.create(
        model=MODEL, messages=say("hi"), user=any_stack.account("1")
    )

    assert answer.choices[0].message.role == "assistant"
    assert "hi" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_completion_is_charged_with_exactly_the_price_of_its_usage(
    any_stack: Stack, *, streamed: bool
) -> None:
    account = any_stack.account("1")
    client = any_stack.openai()

    if streamed:
        chunks = list(
            client.chat.completions.create(
                model=MODEL,
                messages=say("tell me"),
                user=account,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        completion_id, usage = chunks[0].id, chunks[-1].usage
    else:
        answer = client.chat.completions.create(model=MODEL, messages=say("tell me"), user=account)
        completion_id, usage = answer.id, answer.usage

    assert usage is not None
    assert usage.completion_tokens > 0
    assert any_stack.balance(account) == {
        "balance": 1 - price_usd(usage),
        "held": Decimal(0),
        "available": 1 - price_usd(usage),
    }
    (charge,) = any_stack.transactions(account)
    assert Decimal(charge["amount"]) == -price_usd(usage)
    assert charge["metadata"]["completion_id"] == completion_id


def test_a_stream_keeps_openais_form(any_stack: Stack) -> None:
    chunks = list(
        any_stack.openai().chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "system", "content": "be kind"}, *say("hello")],
            user=any_stack.account("1"),
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    roles = [chunk.choices[0].delta.role for chunk in chunks if chunk.choices]
    finishes = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert roles[0] == "assistant"
    assert set(roles[1:]) == {None}
    assert [reason for reason in finishes if reason] == ["stop"]
    assert finishes[-1] == "stop"
    assert [chunk.usage is not None for chunk in chunks].index(True) == len(chunks) - 1
    assert chunks[-1].choices == []
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].model == "gpt-4o-mini"


def test_a_stream_without_include_usage_has_none(stack: Stack) -> None:
    chunks = stack.openai().chat.completions.create(
        model=MODEL, messages=say("hi"), user=stack.account("1"), stream=True
    )

    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_tokens_arrive_while_gemini_is_still_producing(any_stack: Stack) -> None:
    """The simulator produces a token only when it is let: what has come was not waited for."""
    gate = f"paced-{any_stack.account()}"
    any_stack.release(gate, 4)

    stream = any_stack.openai().chat.completions.create(
        model=MODEL,
        messages=say(f"go on [[sim tokens=12 thoughts=0 gate={gate}]]"),
        user=any_stack.account("1"),
        stream=True,
    )
    texts = (chunk.choices[0].delta.content for chunk in stream)
    early = [text for _, text in zip(range(3), (text for text in texts if text), strict=False)]
    requests = any_stack.wait_for_upstream()
    assert len(early) == 3
    assert requests[-1]["state"] == "open"
    any_stack.open_gate(gate)

    assert len([text for text in texts if text]) == 12 - 3


def test_the_conversation_reaches_gemini(stack: Stack) -> None:
    stack.forget_upstream()
    stack.openai().chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": [{"type": "text", "text": "three"}]},
        ],
        temperature=0.2,
        top_p=0.9,
        stop=["END"],
        max_completion_tokens=2_000,
        user=stack.account("1"),
    )

    (request,) = stack.wait_for_upstream(count="1", ended="true")
    body = request["body"]
    assert body["systemInstruction"] == {"parts": [{"text": "be brief"}]}
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]
    assert body["generationConfig"]["temperature"] == 0.2
    assert body["generationConfig"]["stopSequences"] == ["END"]
    assert body["generationConfig"]["maxOutputTokens"] == 2_000


def test_a_limit_ends_an_answer_with_length(any_stack: Stack) -> None:
    answer = any_stack.openai().chat.completions.create(
        model=MODEL,
        messages=say("long [[sim tokens=500]]"),
        max_tokens=20,
        user=any_stack.account("1"),
    )

    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 20


def test_thinking_is_shown_apart_and_billed(stack: Stack) -> None:
    account = stack.account("1")
    answer = stack.openai().chat.completions.create(
        model=MODEL,
        messages=say("think [[sim thoughts=30 tokens=5]]"),
        reasoning_effort="high",
        user=account,
    )

    assert answer.usage is not None
    assert answer.usage.completion_tokens == 35
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 30
    assert answer.choices[0].message.model_dump()["reasoning_content"]
    assert stack.balance(account)["balance"] == 1 - price_usd(answer.usage)


def test_a_user_without_balance_gets_402(any_stack: Stack) -> None:
    any_stack.forget_upstream()
    for balance_usd in ("0", "0.000000001"):
        account = any_stack.account(balance_usd) if balance_usd != "0" else any_stack.account()
        with pytest.raises(openai.APIStatusError) as caught:
            any_stack.openai().chat.completions.create(
                model=MODEL, messages=say("hi"), user=account
            )

        assert caught.value.status_code == 402
        assert caught.value.code == "insufficient_quota"
        headers = caught.value.response.headers
        assert headers["x-should-retry"] == "false"
        assert headers["x-credits-waiting-helps"] == "false"
        assert Decimal(headers["x-credits-available"]) == Decimal(balance_usd)
        assert Decimal(headers["x-credits-required"]) > Decimal(balance_usd)
    assert any_stack.wait_for_upstream() == []


def test_an_unknown_model_gives_400_and_no_internals(stack: Stack) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        stack.openai().chat.completions.create(model="gemini-0.1", messages=say("hi"))

    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.message.count("gemini-0.1") >= 1
    for word in ("Traceback", "generativelanguage", "127.0.0.1", "catalog", "/"):
        assert word not in caught.value.body["message"]  # type: ignore[index]  # a JSON object


def test_models_are_those_that_gemini_offers_at_a_known_price(any_stack: Stack) -> None:
    client = any_stack.openai()

    names = [model.id for model in client.models.list()]

    assert MODEL in names
    assert "gemini-embedding-001" in names
    assert not [name for name in names if name.startswith("models/")]
    assert client.models.retrieve(f"models/{MODEL}").id == MODEL
    assert client.models.retrieve("gpt-4").id == "gemini-2.5-pro"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gemini-0.1")


def test_the_31st_completion_in_a_minute_is_refused(stack: Stack) -> None:
    env = proxy_env({"simulator": stack.simulator.url, "ledger": stack.ledger.url}, stack.folder)
    env["RATE_LIMIT_ENABLED"] = "true"
    account = stack.account("1")
    with (
        ServiceProcess("ai-proxy-service", env, cwd=stack.folder) as proxy,
        openai.OpenAI(api_key=CLIENT_KEY, base_url=f"{proxy.url}/v1", max_retries=0) as client,
    ):

        def complete() -> openai.types.chat.ChatCompletion:
            return client.chat.completions.create(
                model=MODEL, messages=say("[[sim tokens=1]]"), max_tokens=5, user=account
            )

        for _ in range(30):
            complete()
        with pytest.raises(openai.RateLimitError) as caught:
            complete()

        assert caught.value.code == "rate_limit_exceeded"
        assert 0 < int(caught.value.response.headers["retry-after"]) <= 60
        assert caught.value.response.headers["x-ratelimit-limit-requests"] == "30"
        # Other routes have their own, larger limit: 30 of its 60 are used, as what is refused
        # counts for nothing.
        assert client.models.list().data
        with httpx.Client(base_url=proxy.url) as plain:
            answers = [plain.get("/v1/models").status_code for _ in range(30)]
        assert answers == [401] * 29 + [429]
        assert len(stack.transactions(account)) == 30


def test_metrics_have_all_the_fields(stack: Stack) -> None:
    stack.openai().chat.completions.create(model=MODEL, messages=say("hi"), user=stack.account("1"))

    answer = stack.http(stack.proxy.url, None).get("/metrics")

    assert answer.headers["content-type"] == "application/json"
    figures = answer.json()
    assert set(figures) >= {
        *("service", "timestamp", "uptime_seconds", "requests", "tokens", "billing"),
        "performance",
    }
    assert set(figures["requests"]) >= {
        *("total", "successful", "failed", "success_rate_percent", "by_model"),
    }
    assert set(figures["tokens"]) == {"total", "prompt", "completion"}
    assert "total_cost_usd" in figures["billing"]
    assert set(figures["performance"]) >= {
        *("avg_response_time_seconds", "min_response_time_seconds", "max_response_time_seconds"),
    }
    assert figures["requests"]["by_model"][MODEL] >= 1
    assert figures["tokens"]["total"] == (
        figures["tokens"]["prompt"] + figures["tokens"]["completion"]
    )
    text = stack.http(stack.proxy.url, None).get("/metrics", headers={"accept": "text/plain"})
    assert "# TYPE gateway_completions_total counter" in text.text


def test_a_request_id_follows_a_request_to_the_ledger_and_both_logs(stack: Stack) -> None:
    account = stack.account("1")
    stack.openai().chat.completions.create(
        model=MODEL,
        messages=say("hi"),
        user=account,
        extra_headers={"x-request-id": f"trace.{account}"},
    )

    (charge,) = stack.transactions(account)

    assert charge["request_id"] == f"trace.{account}"
    for process, event in ((stack.proxy, "request"), (stack.ledger, "request")):
        process.wait_for_log(f"trace.{account}")
        assert any(
            line["event"] == event and line.get("request_id") == f"trace.{account}"
            for line in process.events()
        )
