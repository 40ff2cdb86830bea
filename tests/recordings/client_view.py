"""Reads the proxy's answers as a strict client would, and checks their form on the way.

The rules are those of OpenAI's clients: each broken one makes at least one of them fail.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from support.openai_schema import assert_valid

CLOCK_SECONDS = 60
ERROR_KEYS = {"message", "type", "param", "code"}
CHUNK_HEAD = ("id", "object", "created", "model")


@dataclass
class ClientView:
    """What a client has seen of one choice.

    Attributes:
        error: the error object, before or inside the stream; None if all went well.
    """

    status: int
    headers: httpx.Headers
    raw: str
    model: str = ""
    content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    logprobs: Any = None
    finish: str | None = None
    native_finish: Any = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


def read_whole(response: httpx.Response) -> ClientView:
    """Read an answer that is not a stream."""
    view = ClientView(response.status_code, response.headers, response.text)
    assert response.headers["content-type"].startswith("application/json")
    assert response.headers["x-request-id"].startswith("req_")
    body = response.json()
    if response.status_code != httpx.codes.OK:
        view.error = _error(body)
        return view
    assert_valid(body, "CreateChatCompletionResponse")
    assert body["object"] == "chat.completion"
    _check_head(body)
    view.model = body["model"]
    view.usage = body["usage"]
    [choice] = body["choices"]
    message = choice["message"]
    assert choice["index"] == 0
    assert message["role"] == "assistant"
    for name in ("tool_calls", "images", "reasoning_content", "function_call"):
        assert message.get(name, True) not in ([], "", None), f"an empty {name}"
    view.content, view.refusal = message["content"], message["refusal"]
    view.reasoning = message.get("reasoning_content")
    view.calls = message.get("tool_calls", [])
    view.images = message.get("images", [])
    view.annotations = message.get("annotations", [])
    view.logprobs = choice["logprobs"]
    view.finish = choice["finish_reason"]
    view.native_finish = choice.get("native_finish_reason")
    return view


def read_stream(response: httpx.Response, *, with_usage: bool = True) -> ClientView:
    """Read a stream that has been received to its end."""
    if response.status_code != httpx.codes.OK:
        return read_whole(response)
    view = ClientView(response.status_code, response.headers, response.text)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-request-id"].startswith("req_")
    assert "content-encoding" not in response.headers
    reader = _StreamReader(view, with_usage=with_usage)
    for event in _events(response.content):
        reader.take(event)
    reader.end()
    return view


def _events(body: bytes) -> list[Any]:
    """Return the decoded events; anything but `data:` lines and comments is a fault."""
    text = body.decode()
    assert "\r" not in text, "only LF ends lines"
    assert text.endswith("data: [DONE]\n\n"), f"the end is {text[-200:]!r}"
    events: list[Any] = []
    for block in text[: -len("\n\n")].split("\n\n"):
        assert "\n" not in block, f"more than one line: {block[:200]!r}"
        if block.startswith(":"):
            continue
        assert block.startswith("data: "), f"not a data line: {block[:200]!r}"
        data = block.removeprefix("data: ")
        assert events[-1:] != ["[DONE]"], "data after [DONE]"
        events.append(data if data == "[DONE]" else json.loads(data))
    return events[:-1]


class _StreamReader:
    """Puts the chunks of a stream together; one choice."""

    def __init__(self, view: ClientView, *, with_usage: bool) -> None:
        self._view = view
        self._with_usage = with_usage
        self._head: dict[str, Any] | None = None
        self._begun = False

    def take(self, event: Any) -> None:
        view = self._view
        assert view.error is None, "an event after the error"
        if "error" in event:
            view.error = _error(event)
            return
        assert_valid(event, "CreateChatCompletionStreamResponse")
        self._check_head(event)
        assert view.usage is None, "an event after the usage"
        if not event["choices"]:
            assert self._with_usage, "a usage event that nobody asked for"
            assert view.finish is not None, "usage before the end"
            view.usage = event["usage"]
            assert view.usage is not None
            return
        assert event.get("usage", "absent") == (None if self._with_usage else "absent")
        [choice] = event["choices"]
        self._take_choice(choice)

    def _check_head(self, event: Mapping[str, Any]) -> None:
        head = {name: event[name] for name in CHUNK_HEAD}
        if self._head is None:
            self._head = head
            _check_head(event)
            assert event["object"] == "chat.completion.chunk"
            self._view.model = event["model"]
        assert head == self._head, "the head of the chunks changes"

    def _take_choice(self, choice: Mapping[str, Any]) -> None:
        view, delta = self._view, choice["delta"]
        assert choice["index"] == 0
        assert view.finish is None, "a delta after the end of the choice"
        assert ("role" in delta) is not self._begun, "the role comes once, in the first delta"
        if not self._begun:
            assert delta["role"] == "assistant"
        self._begun = True
        assert [] not in delta.values(), f"an empty list: {delta}"
        view.content = _joined(view.content, delta.get("content"))
        view.reasoning = _joined(view.reasoning, delta.get("reasoning_content"))
        view.refusal = _joined(view.refusal, delta.get("refusal"))
        self._take_calls(delta.get("tool_calls", []))
        self._take_images(delta.get("images", []))
        if "annotations" in delta:
            assert not view.annotations, "annotations in more than one chunk"
            view.annotations = delta["annotations"]
        if choice.get("logprobs") is not None:
            view.logprobs = view.logprobs or {"content": [], "refusal": None}
            view.logprobs["content"] += choice["logprobs"]["content"]
        view.finish = choice["finish_reason"]
        assert view.finish is not None or "native_finish_reason" not in choice
        view.native_finish = choice.get("native_finish_reason")

    def _take_calls(self, calls: list[dict[str, Any]]) -> None:
        assert len(calls) <= 1, "one call a delta"
        for call in calls:
            # Gemini's calls are whole, so that nothing of a call ever has to be repeated.
            assert call["index"] == len(self._view.calls), "indices from 0 without gaps"
            self._view.calls.append({key: call[key] for key in call if key != "index"})

    def _take_images(self, images: list[dict[str, Any]]) -> None:
        for image in images:
            assert image["index"] == len(self._view.images)
            self._view.images.append(image)

    def end(self) -> None:
        view = self._view
        if view.error is None:
            assert self._head is not None, "no chunk at all"
            assert view.finish is not None, "no finish_reason"
            assert (view.usage is not None) is self._with_usage, "usage is missing"
        else:
            assert view.finish is None, "an error after the end of the choice"


def _joined(before: str | None, piece: str | None) -> str | None:
    return before if piece is None else (before or "") + piece


def _check_head(body: Mapping[str, Any]) -> None:
    assert "service_tier" not in body, "a service tier that nobody asked for"
    assert body["id"].startswith("chatcmpl-")
    assert abs(body["created"] - time.time()) < CLOCK_SECONDS


def _error(body: Any) -> dict[str, Any]:
    assert_valid(body, "ErrorResponse")
    error: dict[str, Any] = body["error"]
    assert set(body) == {"error"}
    assert set(error) == ERROR_KEYS, "the four keys, always"
    return error
