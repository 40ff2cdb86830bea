"""What a client must see, worked out from a recording and the contract alone.

Nothing here comes from the proxy's code.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recordings.corpus import Recording, parts_of

# The enum's numbers, which Gemini sends where a client asks for numbers.
FINISH_REASONS = ("FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION")
FILTERED = frozenset(
    {
        *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "ESCALATION"),
        *("PUP_LIMITED_DISABLED", "MODEL_ARMOR"),
    }
)
BROKEN = frozenset(
    {
        *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"),
        "TOO_MANY_TOOL_CALLS",
    }
)
ID_CHARACTERS_MAX = 64
BROKEN_OFF = "upstream_error"


@dataclass
class Call:
    """A tool call that the client must see; `gemini_id` is Gemini's own id, if it gave one."""

    name: str
    arguments: dict[str, Any]
    gemini_id: str | None
    signature: str | None


@dataclass
class Citation:
    """A stretch of the text and the page it rests on.

    Attributes:
        text: the stretch, as Gemini quotes it.
        start: its first character in the text, by Gemini's count.
    """

    url: str
    title: str | None
    text: str
    start: int


@dataclass
class Expected:
    """What the client must see of one answer.

    Attributes:
        pieces: text, and code and its output, in order.
        failure: the error code, if the answer can't be used.
        shown_before_failure: how many chunks come first that show the client something.
    """

    pieces: list[tuple[str, str]] = field(default_factory=list)
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    logprobs: list[dict[str, Any]] | None = None
    finish: str = ""
    native_finish: str | None = None
    refusal: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None
    shown_before_failure: int = 0

    @property
    def text(self) -> str:
        """The model's own words, without code and output."""
        return "".join(text for kind, text in self.pieces if kind == "text")

    def content_pattern(self) -> re.Pattern[str]:
        """Return what the content must match: all text unchanged, code and output fenced."""
        form = {
            "text": "{}",
            "code": "\n*```python\n{}\n*```\n*",
            "output": "\n*```\n{}\n*```\n*",
        }
        pieces = [
            form[kind].format(re.escape(text if kind == "text" else text.rstrip("\n")))
            for kind, text in self.pieces
        ]
        return re.compile("".join(pieces))


def expected_answer(recording: Recording) -> Expected:
    """Work out what follows from a recorded answer."""
    expected = Expected()
    calls = _Calls()
    for chunk in recording.chunks:
        shown = len(expected.pieces) + len(expected.reasoning) + len(expected.images)
        for part in parts_of(chunk):
            calls.take(part)
            _take_output(part, expected)
        grown = len(expected.pieces) + len(expected.reasoning) + len(expected.images) > shown
        expected.shown_before_failure += grown
    expected.calls = calls.for_client()
    candidates = [candidate for chunk in recording.chunks for candidate in _candidates(chunk)]
    expected.citations = _citations(candidates, expected.text)
    expected.logprobs = _logprobs(candidates)
    expected.usage = _usage(recording.chunks)
    _end(expected, recording, candidates)
    return expected


def _candidates(chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
    return chunk.get("candidates") or []


def _take_output(part: Mapping[str, Any], expected: Expected) -> None:
    text, code, result = (
        part.get(name) for name in ("text", "executableCode", "codeExecutionResult")
    )
    blob = part.get("inlineData")
    if text and part.get("thought"):
        expected.reasoning += text
    elif text:
        expected.pieces.append(("text", text))
    elif code:
        expected.pieces.append(("code", code["code"]))
    elif result:
        expected.pieces.append(("output", result.get("output", "")))
    elif blob and blob["mimeType"].startswith("image/"):
        expected.images.append(f"data:{blob['mimeType']};base64,{blob['data']}")


class _Calls:
    """Collects calls: whole ones, and ones that come in pieces (Vertex AI)."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._continued = False

    def take(self, part: Mapping[str, Any]) -> None:
        call = part.get("functionCall")
        if call is not None:
            self._take_call(call, part.get("thoughtSignature"))
        response = part.get("functionResponse")
        if response is not None:
            # One of Gemini's own servers has answered it: it is not the client's to make.
            answered = next(call for call in self._calls if call.name == response["name"])
            self._calls.remove(answered)

    def _take_call(self, call: Mapping[str, Any], signature: str | None) -> None:
        if call.get("name"):
            arguments = dict(call.get("args") or {})
            self._calls.append(Call(call["name"], arguments, call.get("id"), signature))
        elif self._continued:
            for piece in call.get("partialArgs") or ():
                arguments = self._calls[-1].arguments
                name = piece["jsonPath"].removeprefix("$.")
                arguments[name] = arguments.get(name, "") + piece["stringValue"]
        self._continued = bool(call.get("willContinue"))

    def for_client(self) -> list[Call]:
        """Return the calls; an id that is too long, or there already, is not Gemini's."""
        seen: set[str] = set()
        for call in self._calls:
            if call.gemini_id in seen or len(call.gemini_id or "") > ID_CHARACTERS_MAX:
                call.gemini_id = None
            seen.add(call.gemini_id or "")
        return self._calls


def _citations(candidates: list[dict[str, Any]], text: str) -> list[Citation]:
    found: list[Citation] = []
    encoded = text.encode()
    for candidate in candidates:
        grounding = candidate.get("groundingMetadata") or {}
        sources = grounding.get("groundingChunks") or []
        for support in grounding.get("groundingSupports") or ():
            source = _source(sources, support.get("groundingChunkIndices") or [])
            if source is None:
                continue
            segment = support["segment"]
            before = encoded[: segment.get("startIndex", 0)].decode(errors="ignore")
            found.append(
                Citation(source["uri"], source.get("title"), segment.get("text", ""), len(before))
            )
    return found


def _source(sources: list[dict[str, Any]], indices: list[int]) -> dict[str, Any] | None:
    """Return the first of some sources that has an address."""
    for index in indices:
        kinds = sources[index].values() if index < len(sources) else ()
        for source in kinds:
            if isinstance(source, dict) and source.get("uri"):
                return source
    return None


def _logprobs(candidates: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    results = [
        candidate["logprobsResult"] for candidate in candidates if "logprobsResult" in candidate
    ]
    if not results:
        return None

    def one(token: Mapping[str, Any]) -> dict[str, Any]:
        text = token["token"]
        return {"token": text, "logprob": token["logProbability"], "bytes": list(text.encode())}

    return [
        {**one(chosen), "top_logprobs": [one(token) for token in top["candidates"]]}
        for result in results
        for chosen, top in zip(result["chosenCandidates"], result["topCandidates"], strict=True)
    ]


def _usage(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return OpenAI's counts of the last report; what is absent is none."""
    reports = [chunk["usageMetadata"] for chunk in chunks if chunk.get("usageMetadata")]
    last: dict[str, Any] = reports[-1] if reports else {}
    thoughts = last.get("thoughtsTokenCount", 0)
    prompt = last.get("promptTokenCount", 0) + last.get("toolUsePromptTokenCount", 0)
    completion = last.get("candidatesTokenCount", 0) + thoughts
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        # Two recordings have counts but no total.
        "total_tokens": last.get("totalTokenCount", prompt + completion),
        "prompt_tokens_details": {
            "cached_tokens": last.get("cachedContentTokenCount", 0),
            "audio_tokens": _audio(last.get("promptTokensDetails")),
        },
        "completion_tokens_details": {
            "reasoning_tokens": thoughts,
            "audio_tokens": _audio(last.get("candidatesTokensDetails")),
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _audio(details: list[dict[str, Any]] | None) -> int:
    return sum(item["tokenCount"] for item in details or () if item["modality"] == "AUDIO")


def _end(expected: Expected, recording: Recording, candidates: list[dict[str, Any]]) -> None:
    reasons = [candidate["finishReason"] for candidate in candidates if "finishReason" in candidate]
    if not reasons:
        feedback = next(
            (chunk["promptFeedback"] for chunk in recording.chunks if chunk.get("promptFeedback")),
            None,
        )
        if feedback is None or candidates:
            expected.failure = BROKEN_OFF
            return
        expected.refusal = f"Blocked: {feedback.get('blockReason', 'OTHER')}"
        expected.finish = "content_filter"
        return
    last = reasons[-1]
    expected.native_finish = FINISH_REASONS[last] if isinstance(last, int) else last
    if expected.native_finish in BROKEN:
        expected.failure = expected.native_finish.lower()
        return
    expected.finish = _finish(expected)


def _finish(expected: Expected) -> str:
    if expected.native_finish == "MAX_TOKENS":
        return "length"
    if expected.native_finish in FILTERED:
        return "content_filter"
    if expected.native_finish in {"STOP", "FINISH_REASON_UNSPECIFIED"}:
        return "tool_calls" if expected.calls else "stop"
    # OTHER, and reasons that nobody knows yet: an answer without anything was held back.
    has_output = bool(expected.pieces or expected.calls or expected.images)
    return ("tool_calls" if expected.calls else "stop") if has_output else "content_filter"
