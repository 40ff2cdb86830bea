"""The OpenAI form of each recorded request becomes that request again."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from recordings.corpus import Recording, chat_recordings, each
from recordings.normal_form import normal_request
from recordings.reverse import NotExpressibleError, to_openai, with_ids
from recordings.settings import PATH
from support.replay_server import ReplayServer, streamed, whole

# Why the OpenAI form of a recorded request is none; by the recordings' keys.
NOT_EXPRESSIBLE = {
    # Options that Gemini has and no OpenAI client, nor Google's own OpenAI endpoint, knows.
    "f4fe3676": "imageConfig",
    "7547fc5c": "streamFunctionCallArguments",
    "38f8cd8d": "the calling mode VALIDATED",
    "dd42d58c": "the calling mode ANY without functions",
    "05adb896": "videoMetadata in a message",
    # Tools of Google's that the proxy does not offer.
    "acb36d5a": "the tool mcpServers",
    "bf100aee": "the tool mcpServers",
    "20e39277": "the tool fileSearch",
    "b96ddff4": "the tool fileSearch",
    "081abc68": "the tool fileSearch",
    # To OpenAI's clients, code and its output are text.
    "71311a97": "executableCode in the history",
    "75fe5e1b": "toolCall in the history",
    # The proxy fetches it, so that Gemini gets the image itself.
    "bccde002": "a file on the web that Gemini gets for itself",
    "863cb5af": "a file on the web that Gemini gets for itself",
}
# A small limit on a model that thinks: so that the answer is not all thinking.
SMALL_LIMIT_TOKENS = 1024
LEAST_THINKING = {
    "gemini-2.5-flash": {"thinkingBudget": 0},
    "gemini-2.5-pro": {"thinkingBudget": 128},
    "gemini-3.1-flash-lite": {"thinkingLevel": "MINIMAL"},
}
REQUESTS = [recording for recording in chat_recordings() if recording.data["request"] is not None]


def openai_form(recording: Recording) -> dict[str, Any] | str:
    """Return the OpenAI form, or why there is none."""
    try:
        return to_openai(recording)
    except NotExpressibleError as error:
        return str(error)


EXPRESSIBLE = [recording for recording in REQUESTS if isinstance(openai_form(recording), dict)]


@pytest.mark.skipif(not REQUESTS, reason="no recordings")
def test_the_list_of_what_can_not_be_expressed_is_right() -> None:
    found = {
        recording.key: reason
        for recording in REQUESTS
        if isinstance(reason := openai_form(recording), str)
    }

    assert found == NOT_EXPRESSIBLE
    assert len(EXPRESSIBLE) > 120


@each(EXPRESSIBLE)
def test_a_request(recording: Recording, proxy: httpx.Client, replay: ReplayServer) -> None:
    if recording.is_stream:
        replay.play(streamed=streamed(recording.data))
    else:
        replay.play(whole=whole(recording.data))

    answer = proxy.post(PATH, json=to_openai(recording))

    assert replay.requests, answer.text
    expected = normal_request(with_ids(recording.data["request"]), recording.model)
    add_least_thinking(expected, recording.model)
    # A broken answer is asked for a second time, in the same words.
    for sent in replay.requests:
        assert f"/models/{recording.model}:" in sent.url
        assert ("alt=sse" in sent.url) is recording.is_stream
        got = normal_request(sent.body, recording.model)
        assert list(differences(got, expected)) == []


def add_least_thinking(request: dict[str, Any], model: str) -> None:
    config = request.get("config", {})
    limit = config.get("maxOutputTokens", SMALL_LIMIT_TOKENS)
    if limit < SMALL_LIMIT_TOKENS and "thinkingConfig" not in config and model in LEAST_THINKING:
        config["thinkingConfig"] = LEAST_THINKING[model]


def differences(got: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Name each place where two values differ."""
    if isinstance(got, dict) and isinstance(expected, dict):
        for key in {**got, **expected}:
            yield from differences(got.get(key), expected.get(key), f"{path}.{key}")
    elif isinstance(got, list) and isinstance(expected, list) and len(got) == len(expected):
        for index, (item, wanted) in enumerate(zip(got, expected, strict=True)):
            yield from differences(item, wanted, f"{path}[{index}]")
    elif got != expected:
        yield f"{path}: got {got!r}, expected {expected!r}"
