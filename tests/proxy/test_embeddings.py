"""OpenAI's embedding requests and answers."""

import array
import base64
import json
import math
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.core.interfaces import EmbedOptions
from ai_proxy_service.translation.embeddings import (
    EncodingFormat,
    bound_tokens,
    count_body,
    embed_options,
    embeddings_body,
    estimated_tokens,
    normalised,
    parse_embeddings,
    texts_of,
)
from service_kit.errors import ServiceError
from support.openai_schema import assert_valid

MODEL = "gemini-embedding-001"


def request_of(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": MODEL, "input": "hi", **fields})


def answer_of(vectors: list[list[float]], encoding: EncodingFormat | None) -> dict[str, Any]:
    answer = json.loads(embeddings_body(MODEL, vectors, encoding, 3, 450))
    assert isinstance(answer, dict)
    return answer


def from_base64(text: str) -> list[float]:
    """Decode as OpenAI's own client does."""
    values = array.array("f", base64.b64decode(text))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


@pytest.mark.parametrize(("given", "texts"), [("a", ["a"]), (["a", "b"], ["a", "b"])])
def test_one_text_or_several_can_be_embedded(given: Any, texts: list[str]) -> None:
    assert texts_of(parse_embeddings(request_of(input=given))) == texts


def test_as_many_texts_as_openai_takes_can_be_embedded() -> None:
    assert len(texts_of(parse_embeddings(request_of(input=["a"] * 2048)))) == 2048


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("", "the string is empty"),
        ([], "the array is empty"),
        (["a", ""], "the string at index 1 is empty"),
        (["a"] * 2049, "2049 items; the most is 2048"),
        ([1212, 318], "check_embedding_ctx_length=False"),
        ([[1212, 318], [257]], "check_embedding_ctx_length=False"),
        ([1] * 5000, "check_embedding_ctx_length=False"),
        ([[]], "check_embedding_ctx_length=False"),
        (["a", 1], "check_embedding_ctx_length=False"),
    ],
)
def test_what_cant_be_embedded_is_refused(given: Any, complaint: str) -> None:
    with pytest.raises(InvalidRequestError, match=complaint) as refused:
        parse_embeddings(request_of(input=given))

    assert (refused.value.status, refused.value.field) == (400, "input")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", None),
        (b'{"input":"a"}', "model"),
        (b'{"model":"m"}', "input"),
        (request_of(input=None), "input"),
        (request_of(input=5), "input"),
        (request_of(input={"text": "a"}), "input"),
        (request_of(input=[1.5]), "input[0]"),
        (request_of(input=[True]), "input[0]"),
        (request_of(dimensions=0), "dimensions"),
        (request_of(dimensions="8"), "dimensions"),
        (request_of(encoding_format="hex"), "encoding_format"),
        (request_of(user=""), "user"),
    ],
)
def test_a_malformed_request_names_the_field(body: bytes, field: str | None) -> None:
    with pytest.raises(ServiceError) as refused:
        parse_embeddings(body)

    assert (refused.value.status, refused.value.field) == (400, field)


def test_null_counts_as_absent_and_unknown_fields_are_ignored() -> None:
    nulls = dict.fromkeys(
        ("encoding_format", "dimensions", "user", "user_id", "google", "extra_body")
    )

    request = parse_embeddings(request_of(**nulls, foo=1))

    assert request.encoding_format is None
    assert embed_options(request) == EmbedOptions()


@pytest.mark.parametrize(
    "fields",
    [
        {"google": {"task_type": "RETRIEVAL_QUERY"}},
        {"extra_body": {"google": {"task_type": "RETRIEVAL_QUERY"}}},
        {"google": {"taskType": "retrieval_query"}},
        {"google": {"task_type": "RETRIEVAL_QUERY"}, "extra_body": {"other": 1}},
    ],
)
def test_google_s_task_type_is_taken_from_either_place(fields: dict[str, Any]) -> None:
    options = embed_options(parse_embeddings(request_of(**fields, dimensions=256)))

    assert options == EmbedOptions(dimensions=256, task_type="RETRIEVAL_QUERY")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"google": {"task_type": "NAPPING"}}, "google.task_type"),
        ({"google": {"task_type": 1}}, "google.task_type"),
        ({"google": {"title": "x"}}, "google"),
        ({"extra_body": {"google": {"title": "x"}}}, "extra_body.google"),
        ({"extra_body": {"google": "x"}}, "extra_body.google"),
        ({"google": {}, "extra_body": {"google": {}}}, "google"),
    ],
)
def test_wrong_options_of_google_s_are_refused(fields: dict[str, Any], field: str) -> None:
    request = parse_embeddings(request_of(**fields))

    with pytest.raises(InvalidRequestError) as refused:
        embed_options(request)

    assert refused.value.field == field


def test_a_text_is_reckoned_with_up_to_what_the_model_reads() -> None:
    texts = ["a", "é" * 10, "x" * 100_000]

    assert bound_tokens(texts, 2048) == (1 + 8) + (20 + 8) + 2048
    assert estimated_tokens(texts, 2048) == 1 + 5 + 2048


vectors = st.lists(
    st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=40
)


@given(st.lists(vectors, min_size=1, max_size=4))
def test_both_encodings_give_the_client_the_same_numbers(some: list[list[float]]) -> None:
    plain = [item["embedding"] for item in answer_of(some, "float")["data"]]
    packed = [from_base64(item["embedding"]) for item in answer_of(some, "base64")["data"]]

    assert plain == packed


@given(vectors)
def test_vectors_have_length_one_unless_they_have_none(vector: list[float]) -> None:
    length = math.hypot(*normalised(vector))

    assert length == pytest.approx(1, abs=2e-6) or math.hypot(*vector) < 1e-30


def test_a_unit_vector_stays_as_it_is() -> None:
    vector = [0.6, 0.8]

    assert normalised(vector) is vector
    assert list(normalised([3.0, 4.0])) == [0.6, 0.8]


def test_base64_is_little_endian() -> None:
    answer = answer_of([[1.0, 0.0]], "base64")

    assert base64.b64decode(answer["data"][0]["embedding"]) == b"\x00\x00\x80\x3f" + bytes(4)


def test_an_answer_has_openai_s_form() -> None:
    answer = answer_of([[1.0, 0.0], [0.0, 1.0]], None)

    assert_valid(answer, "CreateEmbeddingResponse")
    assert answer == {
        "object": "list",
        "data": [
            {"object": "embedding", "embedding": [1.0, 0.0], "index": 0},
            {"object": "embedding", "embedding": [0.0, 1.0], "index": 1},
        ],
        "model": MODEL,
        "usage": {"prompt_tokens": 3, "total_tokens": 3, "cost": "0.00000045"},
    }


def test_texts_are_counted_by_gemini_as_they_are_embedded() -> None:
    assert count_body(["a", "b"]) == {
        "contents": [
            {"role": "user", "parts": [{"text": "a"}]},
            {"role": "user", "parts": [{"text": "b"}]},
        ]
    }
