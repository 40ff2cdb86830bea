"""What a test may ask of the simulator, and the directives that ask it.

A directive stands in the text of the last user message that has text::

    [[sim tokens=40 pace=20 status=503 status_message="try later" echo]]

Words are `name=value` or a bare `name` for true; a value with blanks stands in double quotes,
with backslash before a quote or backslash. Several directives add up, later ones win. A name
that does not exist or a value of the wrong type is refused with 400, so that a misspelt test
fails. The control endpoint takes the same names as JSON, and wins over directives.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gemini_simulator.errors import NAMED_ERRORS, invalid_argument
from gemini_simulator.messages import GenerateContentRequest

Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Positive = Annotated[int, Meta(ge=1, le=1_000_000)]
Duration = Annotated[float, Meta(ge=0)]
_DIRECTIVE = re.compile(r'\[\[sim\s+((?:"(?:[^"\\]|\\.)*"|(?!\]\])[^"])*)\]\]', re.DOTALL)
_WORD = re.compile(r'([a-z_]+)(?:=("(?:[^"\\]|\\.)*"|[^\s"]+))?(?=\s|$)', re.DOTALL)


class Behaviour(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request's orders; counts are of answer tokens (text, and a call as one)."""

    # how much, how fast
    tokens: Count | None = None
    thoughts: Count | None = None
    pace: Duration | None = None  # tokens per second; 0 for none
    delay: Duration = 0  # seconds before the first byte of the response
    first_token_delay: Duration | None = None  # seconds between headers and first token
    chunk: Positive | None = None  # tokens per chunk
    thought_chunk: Positive | None = None  # thinking tokens per summary; each waits like others
    split_bytes: Count = 0  # write the stream in pieces of this many bytes
    gate: str | None = None  # a token passes only when the gate of this name releases it
    stall_after: Count | None = None  # free tokens before the gate; alone: silence for ever
    # what
    echo: bool = False
    answer: str | None = None
    call: str | None = None  # function names, comma-separated
    args: str | None = None  # JSON object for each call
    call_id: str | None = None
    # usage
    usage: Annotated[str, Meta(pattern="^(all|last|none|[1-9][0-9]*)$")] = "all"
    final_prompt_tokens: Count | None = None
    cached: Count = 0
    tool_prompt: Count = 0
    searches: Annotated[int, Meta(ge=0, le=100)] = 0  # different queries told as grounding
    tools_after: Count | None = None  # answer tokens before these two are told; else at the end
    # endings
    finish: str | None = None  # a FinishReason, known or not; `none` for none at all
    finish_message: str | None = None
    finish_chunk: Literal["merged", "empty_text", "role", "absent"] | None = None
    early_finish_after: Count | None = None
    block: str | None = None
    block_message: str | None = None
    empty_candidate: bool = False
    no_candidates: bool = False
    # failures
    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    error: str | None = None
    status_message: str | None = None
    retry_delay: Duration = 48
    error_after: Count | None = None
    error_form: Literal["bare", "data"] = "bare"
    garbage_after: Count | None = None
    cut_after: Count | None = None
    hang_up: bool = False

    @property
    def refuses(self) -> bool:
        """Whether the request is answered by an error from the start."""
        return self.error_after is None and (self.status is not None or self.error is not None)


def make_behaviour(orders: Mapping[str, Any]) -> Behaviour:
    """Check orders and bring them into their types.

    Raises:
        ApiError: 400 that names the wrong order.
    """
    try:
        behaviour = msgspec.convert(dict(orders), Behaviour, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_argument(f"Simulator directive: {error}") from error
    if behaviour.error is not None and behaviour.error not in NAMED_ERRORS:
        raise invalid_argument(f"Simulator directive: no error named {behaviour.error!r}")
    return behaviour


def parse_directives(text: str) -> dict[str, str]:
    """Return the orders that a text gives, unchecked but for their form."""
    orders: dict[str, str] = {}
    for directive in _DIRECTIVE.findall(text):
        rest = _WORD.sub("", directive).strip()
        if rest:
            raise invalid_argument(f"Simulator directive: cannot read {rest!r}")
        for name, value in _WORD.findall(directive):
            plain = value or "true"
            if plain.startswith('"'):
                plain = re.sub(r"\\(.)", r"\1", plain[1:-1])
            orders[name] = plain
    return orders


def last_user_text(request: GenerateContentRequest) -> str:
    """Return the text of the last user message that has any, directives included."""
    for content in reversed(request.contents):
        if content.role in {"", "user"}:
            text = "\n".join(part.text for part in content.parts if part.text)
            if text:
                return text
    return ""


def without_directives(text: str) -> str:
    """Return a text without its directives."""
    return _DIRECTIVE.sub("", text).strip()
