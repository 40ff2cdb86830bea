"""Whatever is sent: an answer comes, never a 5xx, always in OpenAI's form, nothing internal in it.

Requests come from the proxy's own OpenAPI document (schemathesis), and from valid bodies in
which single values were made bad (support/hostile_json.py). The same ones in every run.
"""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
)

from support.hostile_json import Raw, encode, hostile
from support.stack import CLIENT_KEY, GEMINI_KEY, MODEL, SERVICE_KEY, TIMEOUT_SECONDS, Stack
from support.valid_bodies import CHATS, COMPLETIONS, EMBEDDINGS

POSTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/quote")
GETS = (
    "/health",
    "/ready",
    "/metrics",
    "/v1/models",
    "/v1/models/{model}",
    "/v1/receipts/{receipt_id}",
)
OPERATIONS = [*((path, "post") for path in POSTS), *((path, "get") for path in GETS)]
STREAM_EVENTS_MAX = 100_000
EXAMPLES = {"post": 30, "get": 6}
EMBEDDING_MODEL = "gemini-embedding-001"
INTERNALS = (
    *("Traceback", "sqlite", "asyncpg", "SELECT ", "INSERT ", ".py", "site-packages", "object at"),
    *("pydantic", "msgspec", "NoneType", "Exception", "generativelanguage", "googleapis"),
    *(GEMINI_KEY, SERVICE_KEY, CLIENT_KEY),
)
DEEP_LIST = Raw("[" * 600 + "]" * 600)
DEEP_OBJECT = Raw('{"a":' * 850 + "1" + "}" * 850)
FOUND: dict[str, dict[str, Any]] = {
    "allowed tools that are no list": {
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": 1}},
    },
    "a kind of choice that is no text": {
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": {"type": ["function"], "name": "f"},
    },
    "a deep list": {"google": {"safety_settings": DEEP_LIST}},
    "a deep object": {"extra_body": {"google": {"thinking_config": DEEP_OBJECT}}},
    "a cache of somebody else's": {"google": {"cached_content": "cachedContents/of-another"}},
}


def fuzzing(examples: int) -> settings:
    """Return the settings of a run that is the same each time and keeps nothing."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def assert_sound(
    status: int, headers: Mapping[str, str], body: str, sent: str, upstream: str
) -> None:
    """Check what holds for every answer."""
    assert status < 500, body
    assert headers["x-request-id"]
    if status >= 400:
        answer = httpx.Response(status, text=body).json()
        assert set(answer) == {"error"}, body
        assert set(answer["error"]) == {"message", "type", "param", "code"}, body
        assert isinstance(answer["error"]["message"], str)
        assert answer["error"]["type"]
        # What the client wrote may be named to it.
        leaked = [word for word in (*INTERNALS, upstream) if word in body and word not in sent]
        assert leaked == [], body
    elif headers["content-type"].startswith("text/event-stream"):
        assert body.endswith("data: [DONE]\n\n")
        assert '"error"' not in body


@pytest.fixture(scope="module")
def payer(stack: Stack) -> str:
    return stack.account("100000")


@pytest.fixture(scope="module")
def document(stack: Stack) -> dict[str, Any]:
    fetched: dict[str, Any] = stack.http(stack.proxy.url, None).get("/openapi.json").json()
    return fetched


def test_all_documented_operations_are_fuzzed(document: dict[str, Any]) -> None:
    documented = {(path, method) for path, item in document["paths"].items() for method in item}

    assert documented == set(OPERATIONS)


def test_no_operation_promises_an_error_in_another_form(document: dict[str, Any]) -> None:
    for path, method in OPERATIONS:
        if path.startswith("/v1"):
            assert "422" not in document["paths"][path][method]["responses"]


@pytest.mark.parametrize(
    ("path", "method", "mode"),
    [
        (path, method, mode)
        for path, method in OPERATIONS
        for mode in GenerationMode
        # What takes nothing at all, not even a key, can't be asked wrongly.
        if mode is GenerationMode.POSITIVE or path.startswith("/v1")
    ],
)
def test_requests_made_from_the_openapi_document(
    *,
    stack: Stack,
    payer: str,
    document: dict[str, Any],
    path: str,
    method: str,
    mode: GenerationMode,
) -> None:
    # By itself it stops reading a stream after twenty events.
    config = SchemathesisConfig.from_dict({"max-stream-events": STREAM_EVENTS_MAX})
    operation = schemathesis.openapi.from_dict(document, config=config)[path][method]
    promised = {*document["paths"][path][method]["responses"], "405"}
    checks = [content_type_conformance, response_schema_conformance]

    @fuzzing(EXAMPLES[method])
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    def run(case: Case[Any], known: bool) -> None:
        as_made = True
        if known and isinstance(case.body, dict):
            as_made = False
            model = EMBEDDING_MODEL if path == "/v1/embeddings" else MODEL
            case.body.update(model=model, user=payer)
        answer = case.call(
            base_url=stack.proxy.url,
            headers={"authorization": f"Bearer {CLIENT_KEY}"},
            timeout=TIMEOUT_SECONDS,
        )
        headers = {name: values[0] for name, values in answer.headers.items()}
        sent = f"{case.formatted_path} {case.body!r}"
        assert_sound(answer.status_code, headers, answer.text, sent, stack.simulator.url)
        assert str(answer.status_code) in promised
        if method == "post":
            # A known model may mend what was wrong.
            more = [negative_data_rejection] if as_made else []
            case.validate_response(answer, checks=[*checks, *more])

    run()


@pytest.mark.parametrize(
    ("path", "skeletons", "examples"),
    [
        ("/v1/chat/completions", CHATS, 250),
        ("/v1/completions", COMPLETIONS, 40),
        ("/v1/embeddings", EMBEDDINGS, 40),
    ],
    ids=["chat", "completions", "embeddings"],
)
def test_valid_requests_with_bad_values(
    any_stack: Stack, path: str, skeletons: tuple[dict[str, Any], ...], examples: int
) -> None:
    account = any_stack.account("100000")
    client = any_stack.http(any_stack.proxy.url, CLIENT_KEY)
    paid = tuple({**skeleton, "user": account} for skeleton in skeletons)

    @fuzzing(examples)
    @given(body=hostile(paid))
    def run(body: bytes) -> None:
        answer = client.post(path, content=body)
        sent = body.decode()
        upstream = any_stack.simulator.url
        assert_sound(answer.status_code, answer.headers, answer.text, sent, upstream)

    run()


@pytest.mark.parametrize(
    ("path", "skeletons"),
    [
        ("/v1/chat/completions", CHATS),
        ("/v1/completions", COMPLETIONS),
        ("/v1/embeddings", EMBEDDINGS),
    ],
    ids=["chat", "completions", "embeddings"],
)
def test_the_bodies_that_fuzzing_starts_from_are_served(
    stack: Stack, payer: str, path: str, skeletons: tuple[dict[str, Any], ...]
) -> None:
    client = stack.http(stack.proxy.url, CLIENT_KEY)

    for skeleton in skeletons:
        answer = client.post(path, json={**skeleton, "user": payer})
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("fields", FOUND.values(), ids=FOUND)
def test_chats_that_fuzzing_found_are_a_400(
    stack: Stack, payer: str, fields: dict[str, Any]
) -> None:
    client = stack.http(stack.proxy.url, CLIENT_KEY)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "user": payer}

    answer = client.post("/v1/chat/completions", content=encode({**body, **fields}))

    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"]


def test_a_number_of_dimensions_that_no_vector_has_is_a_400(stack: Stack, payer: str) -> None:
    client = stack.http(stack.proxy.url, CLIENT_KEY)
    body = {"model": EMBEDDING_MODEL, "input": "Hi", "user": payer, "dimensions": Raw("9" * 400)}

    answer = client.post("/v1/embeddings", content=encode(body))

    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == "dimensions"
