"""Count a prompt as `countTokens` and `promptTokenCount` do: one function for both."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from gemini_simulator.media import decode_base64, file_tokens, media_tokens, modality
from gemini_simulator.messages import Content, GenerateContentRequest, Part
from gemini_simulator.tokens import count_tokens

_TOKENS_PER_CONTENT = 1  # a turn costs one more than its parts: recorded counts do


def json_tokens(value: Any) -> int:
    """Return the tokens of a value's compact JSON."""
    return count_tokens(msgspec.json.encode(value).decode())


def count_contents(contents: Iterable[Content]) -> Counter[str]:
    """Return prompt tokens by modality."""
    count: Counter[str] = Counter()
    for content in contents:
        before = count.total()
        for part in content.parts:
            _count_part(part, count)
        if count.total() > before:
            count["TEXT"] += _TOKENS_PER_CONTENT
    return count


def count_prompt(request: GenerateContentRequest) -> Counter[str]:
    """Return the tokens of contents, system instruction and declared tools, by modality."""
    system = [request.system_instruction] if request.system_instruction else []
    count = count_contents([*system, *request.contents])
    for tool in request.tools:
        if tool.function_declarations:
            count["TEXT"] += json_tokens(tool.function_declarations)
    return count


def details(count: Counter[str]) -> list[dict[str, Any]]:
    """Return the `ModalityTokenCount` list of a count."""
    return [{"modality": name, "tokenCount": tokens} for name, tokens in count.items() if tokens]


def _count_part(part: Part, count: Counter[str]) -> None:
    if part.text:
        count["TEXT"] += count_tokens(part.text)
    if part.function_call is not None:
        count["TEXT"] += count_tokens(part.function_call.name)
        count["TEXT"] += json_tokens(part.function_call.args or {})
    if part.function_response is not None:
        count["TEXT"] += count_tokens(part.function_response.name)
        count["TEXT"] += json_tokens(part.function_response.response or {})
    if part.inline_data is not None:
        content = decode_base64(part.inline_data.data) or b""
        kind = modality(part.inline_data.mime_type)
        count[kind] += (
            count_tokens(content.decode(errors="replace"))
            if kind == "TEXT"
            else media_tokens(part.inline_data.mime_type, content)
        )
    if part.file_data is not None:
        count[modality(part.file_data.mime_type)] += file_tokens(part.file_data.mime_type)
    count["TEXT"] += sum(
        json_tokens(value)
        for value in (part.executable_code, part.code_execution_result)
        if value is not None
    )
