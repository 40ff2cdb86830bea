"""Whatever is sent: an answer comes, never a 5xx, always in OpenAI's form, nothing internal in it.

Requests come from the proxy's own OpenAPI document (schemathesis), and from valid bodies in
which single values were made bad (support/hostile_json.py). The same ones in every run;
`SCHEMA_EXAMPLES=1000` for more.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
)

from support.document_fuzz import (
    IS_LONG,
    PATIENCE,
    SCHEMA_EXAMPLES,
    closed,
    examples,
    fuzzing,
    load,
    modes_of,
    operations_of,
    report,
)
from support.hostile_json import Raw, encode, hostile
from support.proxy_app import proxy_app
from support.stack import CLIENT_KEY, GEMINI_KEY, MODEL, SERVICE_KEY, TIMEOUT_SECONDS, Stack
from support.valid_bodies import CHATS, COMPLETIONS, EMBEDDINGS

pytestmark = PATIENCE

DOCUMENT = closed(
    proxy_app(
        {"simulator": "http://127.0.0.1:1", "ledger": "http://127.0.0.1:1"}, SERVICE_KEY, Path()
    ).openapi()
)
OPERATIONS = operations_of(DOCUMENT)
EMBEDDING_MODEL = "gemini-embedding-001"
EXAMPLES = {"post": 15, "get": 4}
SAID: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
# What is served, if what was made is let in beside it: a request made up of all is hardly ever.
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": SAID,
    "/v1/quote": SAID,
    "/v1/completions": {"model": MODEL, "prompt": "Hi"},
    "/v1/embeddings": {"model": EMBEDDING_MODEL, "input": "Hi"},
}
CHECKS = [content_type_conformance, response_headers_conformance, response_schema_conformance]
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


def members_of(path: str, method: str) -> list[str]:
    """Return what a body may have; one name that none has if there is no body."""
    content = DOCUMENT["paths"][path][method].get("requestBody", {}).get("content", {})
    if not content:
        return [""]
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return sorted(DOCUMENT["components"]["schemas"][name]["properties"])


@pytest.fixture(scope="module")
def payer(stack: Stack) -> str:
    return stack.account("100000")


def test_no_operation_promises_an_error_in_another_form() -> None:
    for path, method in OPERATIONS:
        assert "422" not in DOCUMENT["paths"][path][method]["responses"]


@pytest.mark.parametrize(
    ("path", "method", "mode"),
    [
        pytest.param(path, method, mode, id=f"{method} {path} {mode.value}")
        for path, method in OPERATIONS
        for mode in modes_of(DOCUMENT, path, method)
    ],
)
def test_requests_made_from_the_openapi_document(
    *, stack: Stack, payer: str, path: str, method: str, mode: GenerationMode
) -> None:
    operation = load(DOCUMENT, path, method)
    # Without "default", which promises every status.
    promised = DOCUMENT["paths"][path][method]["responses"].keys() - {"default"}
    statuses: Counter[int] = Counter()

    @fuzzing(examples(EXAMPLES[method], modes_of(DOCUMENT, path, method)))
    @given(
        case=operation.as_strategy(generation_mode=mode),
        known=st.booleans(),
        kept=st.lists(st.sampled_from(members_of(path, method)), max_size=3),
    )
    def run(case: Case[Any], known: bool, kept: list[str]) -> None:
        as_made = True
        if known and isinstance(case.body, dict):
            as_made = False
            few = {name: value for name, value in case.body.items() if name in kept}
            case.body = {**few, **ASKED[path], "user": payer}
        answer = case.call(
            base_url=stack.proxy.url,
            headers={"authorization": f"Bearer {CLIENT_KEY}"},
            timeout=TIMEOUT_SECONDS,
        )
        statuses[answer.status_code] += 1
        headers = {name: values[0] for name, values in answer.headers.items()}
        sent = f"{case.formatted_path} {case.body!r}"
        assert_sound(answer.status_code, headers, answer.text, sent, stack.simulator.url)
        assert str(answer.status_code) in promised
        # What is known may mend what was wrong.
        more = [negative_data_rejection] if as_made else []
        case.validate_response(answer, checks=[*CHECKS, *more])

    run()
    report(path, method, mode, statuses)
    if IS_LONG and path in ASKED and mode is GenerationMode.POSITIVE:
        # Or nothing was tried but refusals.
        assert statuses[200], statuses
    stack.assert_ledger_is_sound()


@pytest.mark.parametrize(
    ("path", "skeletons", "usual"),
    [
        ("/v1/chat/completions", CHATS, 250),
        ("/v1/completions", COMPLETIONS, 40),
        ("/v1/embeddings", EMBEDDINGS, 40),
    ],
    ids=["chat", "completions", "embeddings"],
)
def test_valid_requests_with_bad_values(
    any_stack: Stack, path: str, skeletons: tuple[dict[str, Any], ...], usual: int
) -> None:
    account = any_stack.account("100000")
    client = any_stack.http(any_stack.proxy.url, CLIENT_KEY)
    paid = tuple({**skeleton, "user": account} for skeleton in skeletons)

    @fuzzing(max(usual, SCHEMA_EXAMPLES))
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
