"""Every recorded error reaches the client as one that its SDK acts on rightly.

Trouble with the gateway's own key must never look like trouble with the client's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from recordings.client_view import ClientView, read_stream, read_whole
from recordings.corpus import OK, Recording, chat_recordings, each
from recordings.oracle import expected_answer
from recordings.settings import GEMINI_KEY, PATH
from recordings.test_answers import assert_text
from support.replay_server import MID_STREAM_ERROR, ReplayServer, streamed, whole

STREAMS = [
    recording
    for recording in chat_recordings()
    if recording.is_stream and recording.data["wire"] == "sse" and len(recording.chunks) > 2
]
ERRORS = [recording for recording in chat_recordings() if recording.status != OK]
# Of a bad request, and of a model that is not there, the client may read what Gemini says.
OPEN_STATUSES = {httpx.codes.BAD_REQUEST, httpx.codes.NOT_FOUND}


@dataclass(frozen=True)
class ExpectedError:
    """What the client must get; a `None` in `codes` is OpenAI's absent code."""

    status: int
    type: str
    codes: frozenset[str | None]
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


def expected_error(recording: Recording) -> ExpectedError:
    """Work out the error from what Gemini said, by the contract's table."""
    details = recording.data["response"]["error"].get("details", [])
    if recording.status == httpx.codes.BAD_REQUEST and not _has(details, "API_KEY_INVALID"):
        return ExpectedError(
            400, "invalid_request_error", frozenset({"invalid_value", "unsupported_value", None})
        )
    if recording.status in {400, 401, 403}:
        return ExpectedError(502, "server_error", frozenset({"upstream_auth_error"}))
    if recording.status == httpx.codes.NOT_FOUND:
        return ExpectedError(
            400, "invalid_request_error", frozenset({"model_not_found"}), param="model"
        )
    assert recording.status == httpx.codes.TOO_MANY_REQUESTS, "a status that is not in the table"
    delays = [detail["retryDelay"] for detail in details if "retryDelay" in detail]
    headers = {}
    if delays:
        seconds = int(delays[0].removesuffix("s"))
        headers = {"retry-after": str(seconds), "retry-after-ms": str(seconds * 1000)}
    return ExpectedError(
        429, "rate_limit_error", frozenset({"rate_limit_exceeded"}), headers=headers
    )


def _has(details: list[dict[str, Any]], reason: str) -> bool:
    return any(detail.get("reason") == reason for detail in details)


def secrets_of(recording: Recording) -> Iterator[str]:
    """Return what must not reach the client: our key, our project, Gemini's inner texts."""
    yield GEMINI_KEY
    yield "googleapis.com"
    error = recording.data["response"]["error"]
    if recording.status not in OPEN_STATUSES or _has(error.get("details", []), "API_KEY_INVALID"):
        yield error["message"]
    for detail in error.get("details", []):
        if "detail" in detail and detail["detail"] != error["message"]:
            yield detail["detail"]
        metadata = detail.get("metadata", {})
        if "consumer" in metadata:
            yield metadata["consumer"]


def request(recording: Recording, **options: Any) -> dict[str, Any]:
    return {
        "model": recording.model,
        "messages": [{"role": "user", "content": "Hi"}],
        **options,
    }


def assert_error(view: ClientView, recording: Recording) -> None:
    expected = expected_error(recording)
    assert view.status == expected.status, view.raw
    assert view.error is not None
    assert view.error["type"] == expected.type
    assert view.error["code"] in expected.codes
    assert view.error["message"]
    if expected.param:
        assert view.error["param"] == expected.param
    for name, value in expected.headers.items():
        assert view.headers[name] == value
    for secret in secrets_of(recording):
        assert secret not in view.raw


@each(ERRORS)
def test_an_error(recording: Recording, proxy: httpx.Client, replay: ReplayServer) -> None:
    replay.play(whole=whole(recording.data))

    view = read_whole(proxy.post(PATH, json=request(recording)))

    assert_error(view, recording)
    assert len(replay.requests) == 1


@each(ERRORS)
def test_an_error_before_a_stream_has_its_http_status(
    recording: Recording, proxy: httpx.Client, replay: ReplayServer
) -> None:
    replay.play(streamed=streamed(recording.data))

    view = read_stream(proxy.post(PATH, json=request(recording, stream=True)), with_usage=False)

    assert_error(view, recording)
    assert len(replay.requests) == 1


@each([recording for recording in STREAMS if expected_answer(recording).text][:3])
@pytest.mark.parametrize("form", ["bare", "event"])
def test_an_error_in_mid_stream_is_told_after_what_came_before(
    recording: Recording, form: str, proxy: httpx.Client, replay: ReplayServer
) -> None:
    *chunks, _ = recording.chunks
    begun = streamed({**recording.data, "response_sse": chunks, "response_sse_raw": None})
    tail = MID_STREAM_ERROR
    if form == "event":
        tail = b"data: " + tail.replace(b"\n", b"") + b"\r\n\r\n"
    replay.play(streamed=replace(begun, pieces=(*begun.pieces, tail)))

    view = read_stream(proxy.post(PATH, json=request(recording, stream=True)), with_usage=False)

    before = replace(recording, data={**recording.data, "response_sse": chunks})
    assert view.status == OK
    assert_text(view, expected_answer(before))
    assert view.error is not None
    assert view.error["code"] == "server_is_overloaded"
    assert "currently unavailable" not in view.raw
