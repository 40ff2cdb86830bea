"""A function call that comes in pieces, put together.

Vertex AI sends calls so when it is asked to stream arguments: pieces name their place by a JSON
path such as ``$.items[0].name``, and texts of one place are to be joined.
https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling
"""

import re
from typing import Any

import msgspec

from ai_proxy_service.core.gemini import FunctionCall, PartialArgument

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]")
_INDEX_MAX = 10_000


class PartialCall:
    """One call as far as it has come."""

    def __init__(self, first: FunctionCall) -> None:
        self._first = first
        self._args: dict[str, Any] = dict(first.args or {})
        self.add(first)

    def add(self, piece: FunctionCall) -> None:
        """Take the next piece."""
        for argument in piece.partial_args or ():
            steps = _steps(argument.json_path)
            if steps and isinstance(steps[0], str):
                _put(self._args, steps, _value(argument))

    def whole(self) -> FunctionCall:
        """Return the call, once it is complete."""
        return FunctionCall(name=self._first.name, args=self._args, id=self._first.id)


def _steps(path: str) -> list[str | int]:
    return [
        int(found[2]) if found[2] is not None else next(filter(None, found.group(1, 3, 4)), "")
        for found in _STEP.finditer(path)
    ]


def _value(argument: PartialArgument) -> Any:
    if argument.string_value is not None:
        return argument.string_value
    if argument.number_value is not None:
        number = argument.number_value
        return int(number) if number.is_integer() else number
    return argument.bool_value


def _put(place: Any, steps: list[str | int], value: Any) -> None:
    """Put a value where the steps lead, making what is missing on the way."""
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if not _fits(place, step):
            return
        if following is None:
            old = _get(place, step)
            joins = isinstance(old, str) and isinstance(value, str)
            place[step] = f"{old}{value}" if joins else value
        else:
            if _get(place, step) is None:
                place[step] = [] if isinstance(following, int) else {}
            place = place[step]


def _fits(place: Any, step: str | int) -> bool:
    if isinstance(place, list) and isinstance(step, int) and step <= _INDEX_MAX:
        place += [None] * (step + 1 - len(place))
        return True
    return isinstance(place, dict) and isinstance(step, str)


def _get(place: Any, step: Any) -> Any:
    return place.get(step) if isinstance(place, dict) else place[step]


def arguments_text(args: dict[str, Any] | None) -> str:
    """Return arguments as OpenAI's clients get them: a JSON object in a string."""
    return msgspec.json.encode(args or {}).decode()
