"""Refuse a history that Gemini would refuse.

Rules as documented, or as reported with the text of the refusal: roles, empty parts, the pairing
of calls and results, and thought signatures in the current turn of third-generation models.
"""

from collections.abc import Sequence

from gemini_simulator.errors import invalid_argument
from gemini_simulator.messages import Content, FunctionCall, FunctionResponse
from gemini_simulator.models import Model
from gemini_simulator.signatures import is_genuine

_STRICT_IDS_SINCE = (3, 5)
_NO_FUNCTION_ROLE_SINCE = (3, 6)
_NO_PREFILL = frozenset({"gemini-3.5-flash-lite", "gemini-flash-lite-latest"})


def check_history(contents: Sequence[Content], model: Model) -> None:
    """Check the turns of a request.

    Raises:
        ApiError: 400 for the first rule that is broken.
    """
    if not contents:
        raise invalid_argument("* GenerateContentRequest.contents: contents is not specified\n")
    for index, content in enumerate(contents):
        _check_content(content, index, model)
    _check_pairs(contents, model)
    if model.is_gemini_3:
        _check_signatures(contents)
    without_prefill = model.generation >= _NO_FUNCTION_ROLE_SINCE or model.name in _NO_PREFILL
    if without_prefill and contents[-1].role == "model":
        raise invalid_argument("Please ensure that multiturn requests end with a user role.")


def _check_content(content: Content, index: int, model: Model) -> None:
    if content.role not in {"", "user", "model", "function"}:
        raise invalid_argument("Please use a valid role: user, model.")
    if content.role == "function" and model.generation >= _NO_FUNCTION_ROLE_SINCE:
        raise invalid_argument("Role 'function' is not supported.")
    where = f"* GenerateContentRequest.contents[{index}].parts"
    if not content.parts:
        raise invalid_argument(f"{where}: contents.parts must not be empty.\n")
    for number, part in enumerate(content.parts):
        if not part.has_data():
            raise invalid_argument(
                f"{where}[{number}].data: required oneof field 'data' must have one initialized "
                "field\n"
            )


def _calls(content: Content) -> list[FunctionCall]:
    if content.role != "model":
        return []
    return [part.function_call for part in content.parts if part.function_call is not None]


def _results(content: Content) -> list[FunctionResponse]:
    if content.role == "model":  # the service's own tools answer there
        return []
    return [part.function_response for part in content.parts if part.function_response is not None]


def _check_pairs(contents: Sequence[Content], model: Model) -> None:
    for index, content in enumerate(contents):
        before = contents[index - 1] if index else None
        calls, results = _calls(content), _results(content)
        if calls and (before is None or before.role == "model"):
            raise invalid_argument(
                "Please ensure that function call turn comes immediately after a user turn or "
                "after a function response turn."
            )
        if results and (before is None or not _calls(before)):
            raise invalid_argument(
                "Please ensure that function response turn comes immediately after a function "
                "call turn."
            )
        asked = _calls(before) if before is not None else []
        if asked and len(asked) != len(results):
            raise invalid_argument(
                "Please ensure that the number of function response parts is equal to the number "
                "of function call parts of the function call turn."
            )
        if model.generation >= _STRICT_IDS_SINCE:
            _check_identity(asked, results)


def _check_identity(asked: Sequence[FunctionCall], results: Sequence[FunctionResponse]) -> None:
    """Names must be those of the calls, and so must ids; Google's own client sends no ids."""
    names_differ = sorted(c.name for c in asked) != sorted(r.name for r in results)
    known = {(call.id, call.name) for call in asked}
    if names_differ or any(r.id and (r.id, r.name) not in known for r in results):
        raise invalid_argument(
            "Please ensure that the id and name of each function response match those of its "
            "function call."
        )


def _check_signatures(contents: Sequence[Content]) -> None:
    """Check the current turn: what follows the last user message that is not a result."""
    start = max(
        (
            i
            for i, content in enumerate(contents)
            if content.role != "model" and _has_prompt(content)
        ),
        default=0,
    )
    for position, content in enumerate(contents[start:], start + 1):
        signed = [part for part in content.parts if part.function_call is not None]
        if content.role != "model" or not signed:
            continue
        first = signed[0]
        name = first.function_call.name if first.function_call else ""
        if not first.thought_signature:
            raise invalid_argument(
                "Function call is missing a thought_signature in functionCall parts. This is "
                "required for tools to work correctly. Additional data, function call "
                f"`default_api:{name}` , position {position}. Please refer to "
                "https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
            )
        for part in signed:
            if part.thought_signature and not is_genuine(part.thought_signature):
                raise invalid_argument("Corrupted thought signature.")


def _has_prompt(content: Content) -> bool:
    return any(part.function_response is None and part.has_data() for part in content.parts)
