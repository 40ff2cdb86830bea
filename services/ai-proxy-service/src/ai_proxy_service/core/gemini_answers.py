"""What Gemini's answers mean: names of its enumerations, and answers that can't be shown."""

from collections.abc import Iterable, Sequence

from ai_proxy_service.core.gemini import Candidate, GenerateContentResponse, Part

# The numbers of Gemini's enumeration, which some of its client libraries ask for: the index.
_FINISH_REASONS = (
    *("FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER"),
    *("LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL"),
    *("IMAGE_SAFETY", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "IMAGE_PROHIBITED_CONTENT"),
    *("IMAGE_OTHER", "NO_IMAGE", "IMAGE_RECITATION"),
)
_BLOCK_REASONS = (
    *("BLOCK_REASON_UNSPECIFIED", "SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT"),
    "IMAGE_SAFETY",
)
_MODALITIES = ("MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT")
MISSING_SIGNATURE = "MISSING_THOUGHT_SIGNATURE"
# The model produced something that can't be used: a failure, never a silent stop.
BROKEN_FINISHES = frozenset(
    {
        *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"),
        *("TOO_MANY_TOOL_CALLS", MISSING_SIGNATURE),
    }
)


def _name(value: str | int | None, names: tuple[str, ...]) -> str | None:
    if isinstance(value, int):
        return names[value] if 0 <= value < len(names) else f"UNKNOWN_{value}"
    return value


def finish_name(reason: str | int | None) -> str | None:
    """Return a finish reason's name, whichever way it was sent."""
    return _name(reason, _FINISH_REASONS)


def block_name(reason: str | int | None) -> str | None:
    """Return a block reason's name, whichever way it was sent."""
    return _name(reason, _BLOCK_REASONS)


def modality_name(modality: str | int | None) -> str | None:
    """Return a modality's name, whichever way it was sent."""
    return _name(modality, _MODALITIES)


def broken_finish(answer: Iterable[GenerateContentResponse]) -> str | None:
    """Return why an answer can't be used, if it says so; one candidate is enough."""
    for chunk in answer:
        for candidate in chunk.candidates or ():
            name = finish_name(candidate.finish_reason)
            if name in BROKEN_FINISHES:
                return name
    return None


def never_ends(answer: Iterable[GenerateContentResponse]) -> bool:
    """Tell whether a whole answer gives no reason for its end: it broke off somewhere."""
    return not any(
        chunk.prompt_feedback is not None
        if not chunk.candidates
        else any(candidate.finish_reason is not None for candidate in chunk.candidates)
        for chunk in answer
    )


_PLAIN_ENDS = frozenset({"STOP", "FINISH_REASON_UNSPECIFIED"})


def shows_something(answer: Iterable[GenerateContentResponse]) -> bool:
    """Tell whether chunks have anything that a client could be shown, thoughts included.

    So does an end that says why there is nothing; a plain one does not.
    """
    return any(
        chunk.prompt_feedback is not None
        if not chunk.candidates
        else any(_is_told(candidate) for candidate in chunk.candidates)
        for chunk in answer
    )


def says_nothing(answer: Iterable[GenerateContentResponse]) -> bool:
    """Tell whether a whole answer ends as if all were well, but has nothing besides thoughts."""
    candidates = [candidate for chunk in answer for candidate in chunk.candidates or ()]
    return bool(candidates) and not any(
        finish_name(candidate.finish_reason) not in {None, *_PLAIN_ENDS}
        or any(part.text != "" and not part.thought for part in _parts(candidate))
        for candidate in candidates
    )


def _is_told(candidate: Candidate) -> bool:
    reason = finish_name(candidate.finish_reason)
    return (reason is not None and reason not in _PLAIN_ENDS) or any(
        part.text != "" for part in _parts(candidate)
    )


def _parts(candidate: Candidate) -> Sequence[Part]:
    return (candidate.content and candidate.content.parts) or ()
