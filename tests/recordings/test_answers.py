"""Every recorded answer reaches the client as the contract says, whole and as a stream."""

import json
import re
from decimal import Decimal
from typing import Any

import httpx
import pytest

from recordings.client_view import ClientView, read_stream, read_whole
from recordings.corpus import OK, Recording, chat_recordings, each
from recordings.oracle import BROKEN_OFF, Call, Citation, Expected, expected_answer
from recordings.settings import INPUT_NANOS, LOOKUP_NANOS, OUTPUT_NANOS, PATH
from support.replay_server import Answer, ReplayServer, as_array, streamed, whole

GENERATED_ID = re.compile(r"call_[0-9a-f]{24}")
ID_CHARACTERS_MAX = 64
# One internal retry: the same broken answer came twice.
TRIES_OF_A_BROKEN_ANSWER = 2

# Answers that are errors for the client, and the code of the error.
UNUSABLE = {
    "2305789b": "unexpected_tool_call",
    "5179323a": "unexpected_tool_call",
    "0586ff88": "unexpected_tool_call",
    "8af6c94b": "unexpected_tool_call",
    "8137958d": "malformed_function_call",
    # A golden file of spoken text, which has no finish reason: an answer that broke off.
    "29df3c70": BROKEN_OFF,
}
ANSWERS = [recording for recording in chat_recordings() if recording.status == OK]
# Calls in pieces only come in streams.
WHOLE_ANSWERS = [recording for recording in ANSWERS if "partial-args" not in recording.data["tags"]]
ARRAYS = [recording for recording in ANSWERS if recording.data["wire"] == "json-array"]


def chat_request(recording: Recording, **options: Any) -> dict[str, Any]:
    """Return a request to which the recorded answer may come."""
    expected = expected_answer(recording)
    request: dict[str, Any] = {
        "model": recording.model,
        "messages": [{"role": "user", "content": "Hi"}],
        "user": recording.key,
        **options,
    }
    if expected.calls:
        names = dict.fromkeys(call.name for call in expected.calls)
        request["tools"] = [{"type": "function", "function": {"name": name}} for name in names]
    if expected.images:
        request["modalities"] = ["text", "image"]
    if expected.logprobs:
        request |= {"logprobs": True, "top_logprobs": 2}
    return request


def stream_request(recording: Recording) -> dict[str, Any]:
    return chat_request(recording, stream=True, stream_options={"include_usage": True})


@pytest.mark.skipif(not ANSWERS, reason="no recordings")
def test_the_list_of_answers_that_can_not_be_used_is_right() -> None:
    failures = {recording.key: expected_answer(recording).failure for recording in ANSWERS}

    assert {key: code for key, code in failures.items() if code is not None} == UNUSABLE


@each(WHOLE_ANSWERS)
def test_a_whole_answer(recording: Recording, proxy: httpx.Client, replay: ReplayServer) -> None:
    replay.play(whole=whole(recording.data, recording.merged()))

    view = read_whole(proxy.post(PATH, json=chat_request(recording)))

    expected = expected_answer(recording)
    if expected.failure:
        assert_failed_at_once(view, expected, replay)
    else:
        assert_as_expected(view, expected, recording)
        assert len(replay.requests) == 1
        if expected.calls and not expected.pieces:
            assert view.content is None


@each(ANSWERS)
def test_a_streamed_answer(recording: Recording, proxy: httpx.Client, replay: ReplayServer) -> None:
    assert_streamed(recording, streamed(recording.data), proxy, replay)


@each(ARRAYS)
def test_a_streamed_answer_that_is_a_json_array(
    recording: Recording, proxy: httpx.Client, replay: ReplayServer
) -> None:
    assert_streamed(recording, as_array(recording.data), proxy, replay)


@each(ANSWERS)
def test_a_stream_without_usage_has_none(
    recording: Recording, proxy: httpx.Client, replay: ReplayServer
) -> None:
    replay.play(streamed=streamed(recording.data))

    read_stream(proxy.post(PATH, json=chat_request(recording, stream=True)), with_usage=False)


def assert_streamed(
    recording: Recording, answer: Answer, proxy: httpx.Client, replay: ReplayServer
) -> None:
    expected = expected_answer(recording)
    if expected.failure and expected.shown_before_failure:
        replay.play(streamed=answer.gated(expected.shown_before_failure))
        view = read_stream(receive_gated(proxy, stream_request(recording), replay))
        assert view.status == OK
        assert view.error is not None
        assert view.error["code"] == expected.failure
        assert view.error["type"] == "server_error"
        assert_text(view, expected)
        assert len(replay.requests) == 1
        return
    replay.play(streamed=answer)
    view = read_stream(proxy.post(PATH, json=stream_request(recording)))
    if expected.failure == BROKEN_OFF:
        # That nothing more comes is only seen after the status has been sent.
        assert view.error is not None
        assert view.error["code"] == BROKEN_OFF
    elif expected.failure:
        assert_failed_at_once(view, expected, replay)
    else:
        assert_as_expected(view, expected, recording)
        assert len(replay.requests) == 1


def receive_gated(
    proxy: httpx.Client, request: dict[str, Any], replay: ReplayServer
) -> httpx.Response:
    """Receive a stream whose upstream goes on only when the client has its beginning."""
    with proxy.stream("POST", PATH, json=request) as response:
        received: list[bytes] = []
        for data in response.iter_raw():
            received.append(data)
            if b'"role"' in data:
                replay.gate.set()
    return httpx.Response(
        response.status_code, headers=response.headers, content=b"".join(received)
    )


def assert_failed_at_once(view: ClientView, expected: Expected, replay: ReplayServer) -> None:
    """A broken answer of which nothing was sent is an HTTP error, never an empty stop."""
    assert view.status == httpx.codes.BAD_GATEWAY, view.raw[:500]
    assert view.error is not None
    assert view.error["code"] == expected.failure
    assert view.error["type"] == "server_error"
    if expected.native_finish:
        assert len(replay.requests) == TRIES_OF_A_BROKEN_ANSWER


def assert_as_expected(view: ClientView, expected: Expected, recording: Recording) -> None:
    assert view.status == OK, view.raw[:500]
    assert view.error is None
    assert view.model == recording.model
    assert_text(view, expected)
    assert_calls(view.calls, expected.calls)
    urls = [image["image_url"]["url"] for image in view.images]
    assert urls == expected.images
    assert [image["index"] for image in view.images] == list(range(len(urls)))
    assert all(image["type"] == "image_url" for image in view.images)
    assert_citations(view, expected)
    logprobs = {"content": expected.logprobs, "refusal": None} if expected.logprobs else None
    assert view.logprobs == logprobs
    assert view.finish == expected.finish
    if expected.native_finish is not None:
        assert view.native_finish == expected.native_finish
    assert view.usage is not None
    cost_nanos = Decimal(view.usage.pop("cost")).scaleb(9)
    assert view.usage == expected.usage
    assert_price(cost_nanos, expected.usage)


def assert_price(cost_nanos: Decimal, usage: dict[str, Any]) -> None:
    """Besides tokens only lookups cost something, each the same."""
    tokens_nanos = usage["prompt_tokens"] * INPUT_NANOS + usage["completion_tokens"] * OUTPUT_NANOS
    lookups, rest = divmod(cost_nanos - tokens_nanos, LOOKUP_NANOS)
    assert lookups >= 0
    assert rest == 0


def assert_text(view: ClientView, expected: Expected) -> None:
    if expected.refusal is not None:
        assert view.refusal == expected.refusal
        assert not view.content
        return
    assert view.refusal is None
    assert expected.content_pattern().fullmatch(view.content or ""), view.content
    assert (view.reasoning or "") == expected.reasoning


def assert_calls(seen: list[dict[str, Any]], expected: list[Call]) -> None:
    assert [call["function"]["name"] for call in seen] == [call.name for call in expected]
    for got, call in zip(seen, expected, strict=True):
        assert got["type"] == "function"
        assert json.loads(got["function"]["arguments"]) == call.arguments
        if call.gemini_id is None:
            assert GENERATED_ID.fullmatch(got["id"])
        else:
            assert got["id"] == call.gemini_id
        # Beside it may stand what else Gemini wants to see again with the call.
        extra = got.get("extra_content", {}).get("google", {})
        assert extra.get("thought_signature") == call.signature
    ids = [call["id"] for call in seen]
    assert len(set(ids)) == len(ids)
    assert all(0 < len(call_id) <= ID_CHARACTERS_MAX for call_id in ids)


def assert_citations(view: ClientView, expected: Expected) -> None:
    content = view.content or ""
    assert len(view.annotations) == len(expected.citations)
    for annotation, citation in zip(view.annotations, expected.citations, strict=True):
        assert annotation["type"] == "url_citation"
        assert set(annotation["url_citation"]) == {"start_index", "end_index", "url", "title"}
        assert_citation(annotation["url_citation"], citation, content)


def assert_citation(seen: dict[str, Any], citation: Citation, content: str) -> None:
    assert seen["url"] == citation.url
    if citation.title:
        assert seen["title"] == citation.title
    start, end = seen["start_index"], seen["end_index"]
    assert 0 <= start <= end <= len(content)
    # Some golden files were edited after Gemini had counted: there only the quote is right.
    if citation.text in content:
        assert content[start:end] == citation.text
    else:
        assert start == citation.start
