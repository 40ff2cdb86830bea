"""Gemini's `batchEmbedContents`, as recorded and otherwise.

The recordings are not part of the project: `GEMINI_WIRE_DIR` names their folder; by default it
is looked for beside the checkout.
"""

import json
import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.core.interfaces import Embeddings, EmbedOptions
from ai_proxy_service.services.gemini_embeddings import (
    decode_embeddings,
    embed_path,
    embed_requests,
    join_embeddings,
)
from ai_proxy_service.services.gemini_wire import decode_error
from ai_proxy_service.translation.embeddings import embeddings_body
from support.openai_schema import assert_valid

RECORDINGS = Path(
    os.environ.get("GEMINI_WIRE_DIR", Path(__file__).parents[3] / "shared" / "gemini-wire" / "open")
)
MODEL = "gemini-embedding-001"


@cache
def recordings() -> list[dict[str, Any]]:
    if not RECORDINGS.is_dir():
        pytest.skip(f"no recordings at {RECORDINGS}")
    found = [json.loads(path.read_text()) for path in sorted(RECORDINGS.glob("*.json"))]
    return [one for one in found if str(one["path"]).endswith(":batchEmbedContents")]


def test_texts_go_out_a_hundred_at_a_time_and_in_order() -> None:
    texts = [str(number) for number in range(250)]
    options = EmbedOptions(dimensions=256, task_type="CLUSTERING")

    bodies = list(embed_requests(MODEL, texts, options))

    assert [len(body["requests"]) for body in bodies] == [100, 100, 50]
    sent = [entry for body in bodies for entry in body["requests"]]
    assert [entry["content"]["parts"][0]["text"] for entry in sent] == texts
    assert sent[0] == {
        "model": f"models/{MODEL}",
        "content": {"parts": [{"text": "0"}]},
        "outputDimensionality": 256,
        "taskType": "CLUSTERING",
    }
    assert embed_path(MODEL) == f"models/{MODEL}:batchEmbedContents"


def test_what_was_not_asked_for_is_not_sent() -> None:
    (body,) = embed_requests(MODEL, ["a"], EmbedOptions())

    assert body["requests"][0].keys() == {"model", "content"}


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (None, None),
        ({}, None),
        ({"promptTokenCount": 8}, 8),
        # a count of none is none at all
        ({"promptTokenCount": 0}, None),
        ({"promptTokenCount": -1}, None),
        ({"promptTokenDetails": [{"modality": "TEXT", "tokenCount": 8}]}, 8),
        ({"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 8}]}, 8),
    ],
)
def test_the_count_is_read_where_there_is_one(usage: Any, counted: int | None) -> None:
    answer = {"embeddings": [{"values": [1.0]}], "usageMetadata": usage}

    assert decode_embeddings(json.dumps(answer).encode(), 1).prompt_tokens == counted


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"{}",
        b'{"embeddings":[]}',
        b'{"embeddings":[{"values":[]}]}',
        b'{"embeddings":[{"values":["a"]}]}',
        b'{"embeddings":[{"values":[1]},{"values":[1]}]}',
        b'{"embeddings":[{"values":[1e999]}]}',
    ],
)
def test_an_answer_without_a_vector_for_each_text_is_an_error(answer: bytes) -> None:
    with pytest.raises(GeminiError) as failed:
        decode_embeddings(answer, 1)

    assert failed.value.status == 502


def test_several_answers_are_joined_in_order() -> None:
    joined = join_embeddings([Embeddings([[1.0], [2.0]], 5), Embeddings([[3.0]], 7)])

    assert joined == Embeddings([[1.0], [2.0], [3.0]], 12)


def test_a_count_that_one_answer_lacks_is_not_known_at_all() -> None:
    joined = join_embeddings([Embeddings([[1.0]], 5), Embeddings([[2.0]], None)])

    assert joined.prompt_tokens is None


def test_the_recorded_requests_are_the_ones_that_are_made() -> None:
    for recorded in recordings():
        model = str(recorded["path"]).rpartition("/")[2].partition(":")[0]
        entries = recorded["request"]["requests"]
        texts = [entry["content"]["parts"][0]["text"] for entry in entries]
        options = EmbedOptions(entries[0].get("outputDimensionality"), entries[0].get("taskType"))
        # An old client names a role and repeats the model; both mean nothing here.
        expected = [{**entry, "content": {"parts": entry["content"]["parts"]}} for entry in entries]

        assert list(embed_requests(model, texts, options)) == [{"requests": expected}]
        assert str(recorded["path"]).endswith(embed_path(model))


def test_the_recorded_vectors_reach_the_client() -> None:
    answered = [recorded for recorded in recordings() if recorded["status"] == 200]
    assert len(answered) >= 4

    for recorded in answered:
        sent = [item["values"] for item in recorded["response"]["embeddings"]]
        found = decode_embeddings(json.dumps(recorded["response"]).encode(), len(sent))
        answer = json.loads(embeddings_body(MODEL, found.vectors, "float", 3, 450))

        assert_valid(answer, "CreateEmbeddingResponse")
        usage = recorded["response"].get("usageMetadata", {})
        assert found.prompt_tokens == usage.get("promptTokenCount")
        for values, item in zip(sent, answer["data"], strict=True):
            length = math.hypot(*values)
            assert item["embedding"] == pytest.approx([value / length for value in values])
            assert math.hypot(*item["embedding"]) == pytest.approx(1, abs=2e-6)


def test_the_recorded_refusals_are_read_as_such() -> None:
    for recorded in recordings():
        if recorded["status"] != 200:
            body = json.dumps(recorded["response"]).encode()

            assert decode_error(recorded["status"], body).status == recorded["status"]
