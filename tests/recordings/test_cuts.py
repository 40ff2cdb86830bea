"""However the bytes of a stream are cut, the client gets the same."""

import re
from collections.abc import Iterable

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_proxy_service.core.gemini import GeminiError
from ai_proxy_service.core.usage import TokenUsage, usage_of
from ai_proxy_service.services.gemini_stream import StreamDecoder
from ai_proxy_service.translation.answer import AnswerState
from ai_proxy_service.translation.stream import ChatStreamTranslator
from recordings.corpus import OK, Recording, chat_recordings, each
from recordings.test_answers import UNUSABLE, assert_streamed
from support.replay_server import MID_STREAM_ERROR, ReplayServer, as_array, cut, streamed

STREAMS = [
    recording for recording in chat_recordings() if recording.is_stream and recording.status == OK
]
# Cuts inside of lines, of line ends and of characters.
SIZES = (1, 2, 3, 1, 211, 5, 1021)
_GENERATED_ID = re.compile(rb"call_[0-9a-f]{24}")


def client_bytes(pieces: Iterable[bytes]) -> tuple[bytes, tuple[int, str] | None]:
    """Return what a client would be sent for a stream that came in these pieces, and its error."""
    decoder = StreamDecoder()
    answer = AnswerState()
    translator = ChatStreamTranslator(
        completion_id="chatcmpl-1", created=1, model="m", answer=answer, include_usage=True
    )
    usage: TokenUsage | None = None
    sent = b""
    for chunks in (*map(decoder.feed, pieces), decoder.finish()):
        for chunk in chunks:
            sent += translator.chunk(chunk)
            if chunk.usage_metadata is not None:
                usage = usage_of(chunk.usage_metadata)
    sent += translator.finish() + translator.end({0: "stop"}, usage, 0)
    failure = decoder.failure
    error = (failure.status, failure.reason) if isinstance(failure, GeminiError) else None
    # Calls to which Gemini gave no id get a random one.
    return _GENERATED_ID.sub(b"call_", sent), error


def form(recording: Recording, kind: str) -> bytes:
    """Return the bytes of a stream in one of the forms that occur."""
    body = as_array(recording.data).body if kind == "array" else streamed(recording.data).body
    if kind == "lf":
        return body.replace(b"\r\n", b"\n")
    return body + MID_STREAM_ERROR if kind == "error" else body


@pytest.mark.skipif(not STREAMS, reason="no recordings")
@settings(deadline=None, max_examples=300)
@given(
    recording=st.sampled_from(STREAMS) if STREAMS else st.nothing(),
    kind=st.sampled_from(["events", "lf", "array", "error"]),
    sizes=st.lists(st.integers(1, 2000), min_size=1, max_size=30),
)
def test_a_stream_cut_anywhere_reaches_the_client_in_the_same_bytes(
    recording: Recording, kind: str, sizes: list[int]
) -> None:
    body = form(recording, kind)

    assert client_bytes(cut(body, sizes)) == client_bytes([body])


@each(STREAMS)
def test_a_stream_cut_byte_by_byte_reaches_the_client_in_the_same_bytes(
    recording: Recording,
) -> None:
    body = streamed(recording.data).body

    assert client_bytes(cut(body, [1])) == client_bytes([body])


@each([recording for recording in STREAMS if recording.key not in UNUSABLE])
def test_a_stream_cut_on_the_way_is_answered_as_a_whole_one(
    recording: Recording, proxy: httpx.Client, replay: ReplayServer
) -> None:
    assert_streamed(recording, streamed(recording.data).cut(SIZES), proxy, replay)
