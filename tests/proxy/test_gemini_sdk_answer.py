"""The JSON that the retired SDK received, read without the SDK's own losses."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ai_proxy_service.core.gemini import GeminiError, GeminiUnreachableError
from ai_proxy_service.core.gemini_answers import finish_name
from ai_proxy_service.services.gemini_sdk_answer import ArrayReader
from simulator.wire_client import FLASH_25, body
from support.live_server import live_server
from support.sdk_bench import chunks_of, connected, only, said

RICH: dict[str, Any] = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {"executableCode": {"language": 1, "code": 'print("}]{")'}},
                    {"codeExecutionResult": {"outcome": 1, "output": 'a "\\" b'}},
                    {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
                    {"text": "snö ☃ [x]"},
                ],
            },
            "finishReason": 1,
            "groundingMetadata": {
                "groundingChunks": [{"web": {"uri": "https://a.example", "title": "a"}}],
                "groundingSupports": [
                    {"segment": {"endIndex": 3, "text": "snö"}, "groundingChunkIndices": [0]}
                ],
                "webSearchQueries": ["snow"],
            },
            "logprobsResult": {"chosenCandidates": [{"token": "snö", "logProbability": -0.5}]},
        }
    ],
    "usageMetadata": {"promptTokenCount": 1, "cacheTokensDetails": [{"modality": 4}]},
    "responseId": "r1",
}


async def answer_rich(request: Request) -> Response:
    if "stream" not in request.url.path:
        return Response(json.dumps(RICH), media_type="application/json")

    async def pieces() -> AsyncIterator[bytes]:
        data = f"[{json.dumps(RICH, indent=2)}\n,\r\n{json.dumps(RICH)}\n]\n".encode()
        for start in range(0, len(data), 7):
            yield data[start : start + 7]

    return StreamingResponse(pieces(), media_type="application/json; charset=UTF-8")


async def test_all_that_an_answer_holds_is_kept() -> None:
    app = Starlette(routes=[Route("/{path:path}", answer_rich, methods=["POST"])])
    with live_server(app) as url:
        async with connected(url) as client:
            answer = await client.generate_completion(FLASH_25, body("hi"))
            chunks, error = await chunks_of(client, FLASH_25, body("hi"))

    assert error is None
    assert [answer, answer] == chunks
    code, result, image, text = said(answer)
    assert code.executable_code is not None
    assert code.executable_code.code == 'print("}]{")'
    assert result.code_execution_result is not None
    assert result.code_execution_result.output == 'a "\\" b'
    assert image.inline_data is not None
    assert image.inline_data.data == "aGk="
    assert text.text == "snö ☃ [x]"
    candidate = only(answer)
    assert finish_name(candidate.finish_reason) == "STOP"
    assert candidate.grounding_metadata is not None
    assert candidate.grounding_metadata.web_search_queries == ["snow"]
    assert candidate.logprobs_result is not None
    assert candidate.logprobs_result.chosen_candidates is not None
    assert answer.response_id == "r1"


objects = st.lists(
    st.dictionaries(
        st.text(max_size=4), st.text() | st.lists(st.dictionaries(st.text(), st.text()))
    ),
    max_size=4,
)


@given(objects, st.booleans(), st.data())
def test_an_array_is_read_however_its_bytes_arrive(
    values: list[Any], pretty: bool, data: st.DataObject
) -> None:
    encoded = json.dumps(values, indent=2 if pretty else None, ensure_ascii=pretty).encode() + b"\n"
    cuts = data.draw(st.lists(st.integers(1, len(encoded) - 1), unique=True).map(sorted))
    reader = ArrayReader()

    found: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(encoded)], strict=True):
        found += reader.feed(encoded[start:end])
    reader.finish()

    assert [json.loads(text) for text in found] == values


@pytest.mark.parametrize("text", [b"", b"[", b'[{"a": 1}', b'[{"a": "]', b'[{"a": 1},', b'[{"a'])
def test_an_array_that_is_not_complete_broke_off(text: bytes) -> None:
    reader = ArrayReader()
    if text:
        reader.feed(text)
    with pytest.raises(GeminiUnreachableError):
        reader.finish()


def test_what_is_no_array_is_refused_and_a_stray_object_is_found() -> None:
    with pytest.raises(GeminiError, match="502 MALFORMED"):
        ArrayReader().feed(b" <html>")
    assert ArrayReader().feed(b'\r\n[{"a": 1}]\n{"error": {}}') == [b'{"a": 1}', b'{"error": {}}']
