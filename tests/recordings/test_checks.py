"""The checks themselves notice what they are there to notice."""

import json
import time
from typing import Any

import httpx
import pytest

from recordings.client_view import read_stream
from support.openai_schema import assert_valid

MODEL = {"id": "m", "object": "model", "created": 1, "owned_by": "google"}
EMBEDDING = {"object": "embedding", "index": 0, "embedding": [0.5]}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
ERROR = {"message": "No.", "type": "server_error", "param": None, "code": None}
HEAD = {"id": "chatcmpl-1", "created": int(time.time()), "model": "m"}
MESSAGE = {"role": "assistant", "content": None, "refusal": None}
VALID: dict[str, dict[str, Any]] = {
    "CreateChatCompletionResponse": {
        **HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": MESSAGE, "logprobs": None, "finish_reason": "stop"}],
    },
    "CreateChatCompletionStreamResponse": {
        **HEAD,
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": None}],
        "usage": None,
    },
    "ErrorResponse": {"error": ERROR},
    "CreateEmbeddingResponse": {
        "object": "list",
        "model": "m",
        "data": [EMBEDDING],
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    },
    "CreateCompletionResponse": {
        **HEAD,
        "object": "text_completion",
        "choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}],
    },
    "ListModelsResponse": {"object": "list", "data": [MODEL]},
}
ROLE = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
TEXT = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}
END = {"index": 0, "delta": {}, "finish_reason": "stop"}


def call(index: int) -> dict[str, Any]:
    function = {"name": "f", "arguments": "{}"}
    one = {"index": index, "id": "call_1", "type": "function", "function": function}
    return {"index": 0, "delta": {"tool_calls": [one]}, "finish_reason": None}


def event(*choices: dict[str, Any], usage: Any = None, **head: Any) -> str:
    chunk = {**HEAD, "object": "chat.completion.chunk", "choices": choices, "usage": usage}
    return f"data: {json.dumps({**chunk, **head})}\n\n"


def stream(*events: str) -> httpx.Response:
    headers = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        "x-request-id": "req_1",
    }
    # The events may have been written long before the test runs.
    written, now = (f'"created": {seconds}' for seconds in (HEAD["created"], int(time.time())))
    return httpx.Response(200, headers=headers, text="".join(events).replace(written, now))


TOTAL = event(usage=USAGE)
DONE = "data: [DONE]\n\n"
BROKEN_STREAMS = {
    "the role twice": [event(ROLE), event(ROLE), event(END), TOTAL, DONE],
    "no role": [event(TEXT), event(END), TOTAL, DONE],
    "no end of the choice": [event(ROLE), TOTAL, DONE],
    "text after the end": [event(ROLE), event(END), event(TEXT), TOTAL, DONE],
    "two ends": [event(ROLE), event(END), event(END), TOTAL, DONE],
    "no usage": [event(ROLE), event(END), DONE],
    "usage twice": [event(ROLE), event(END), TOTAL, TOTAL, DONE],
    "usage before the end": [event(ROLE), event(TEXT, usage=USAGE), event(END), TOTAL, DONE],
    "no [DONE]": [event(ROLE), event(END), TOTAL],
    "data after [DONE]": [event(ROLE), event(END), TOTAL, DONE, event(TEXT), DONE],
    "another id": [event(ROLE), event(TEXT, id="chatcmpl-2"), event(END), TOTAL, DONE],
    "calls from 1 on": [event(ROLE), event(call(1)), event(END), TOTAL, DONE],
    "a named event": ["event: x\n", event(ROLE), event(END), TOTAL, DONE],
    "CRLF": [event(ROLE).replace("\n", "\r\n"), event(END), TOTAL, DONE],
    "an error without code": [event(ROLE), 'data: {"error":{"message":"x"}}\n\n', DONE],
}


@pytest.mark.parametrize("schema", VALID)
def test_the_schema_takes_what_is_right_and_nothing_else(schema: str) -> None:
    assert_valid(VALID[schema], schema)

    for missing in VALID[schema]:
        if missing != "usage":
            rest = {key: value for key, value in VALID[schema].items() if key != missing}
            with pytest.raises(AssertionError, match=f"not a valid {schema}"):
                assert_valid(rest, schema)


def test_a_right_stream_is_read() -> None:
    view = read_stream(stream(event(ROLE), ": ping\n\n", event(TEXT), event(END), TOTAL, DONE))

    assert (view.content, view.finish, view.usage) == ("Hi", "stop", USAGE)


@pytest.mark.parametrize("fault", BROKEN_STREAMS)
def test_a_wrong_stream_is_noticed(fault: str) -> None:
    with pytest.raises(AssertionError):
        read_stream(stream(*BROKEN_STREAMS[fault]))
