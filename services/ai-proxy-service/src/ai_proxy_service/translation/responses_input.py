"""A body in the Responses API's form, posted to the chat endpoint, as messages.

Cursor does so with keys of one's own. OpenAI's API reference, "Create a model response".
"""

from http import HTTPStatus
from typing import Any

import msgspec

from ai_proxy_service.core.errors import InvalidRequestError, missing_parameter
from ai_proxy_service.translation.nested import convert_at
from ai_proxy_service.translation.openai_types import (
    ChatRequest,
    ContentPart,
    CustomCall,
    FunctionCall,
    InputFile,
    MediaUrl,
    Message,
    ResponseFormat,
    ToolCall,
)

_OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})
# What earlier answers may have had besides: nothing that Gemini could take back.
_SKIPPED = frozenset({"reasoning", "web_search_call", "code_interpreter_call"})
_REASONING_IDS = "rs_"
_TEXTS = frozenset({"input_text", "output_text", "text"})


class _InputPart(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None
    detail: str | None = None


class _Item(msgspec.Struct):
    type: str | None = None
    id: str | None = None
    role: str | None = None
    content: str | list[_InputPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: str | list[_InputPart] | None = None


def take_responses_form(chat: ChatRequest) -> None:
    """Bring a request in the Responses API's form into that of chat.

    Raises:
        InvalidRequestError: an unknown item or form, or one that is not as documented.
    """
    assert chat.input is not None
    chat.messages = messages_of_input(chat.input, chat.instructions)
    form = (chat.text or {}).get("format")
    if form is not None and chat.response_format is None:
        chat.response_format = _response_format(form)


def _response_format(form: Any) -> ResponseFormat:
    """Return a `text.format`, whose schema stands beside its type, as a `response_format`."""
    if isinstance(form, dict) and form.get("type") == "json_schema":
        form = {"type": "json_schema", "json_schema": form}
    try:
        return msgspec.convert(form, ResponseFormat)
    except msgspec.ValidationError as error:
        text = str(error).partition(" - at `$")[0]
        raise InvalidRequestError(
            f"Invalid value for 'text.format': {text}.", field="text.format"
        ) from None


def messages_of_input(given: str | list[Any], instructions: str | None) -> list[Message]:
    """Return the messages that an `input` stands for.

    Raises:
        InvalidRequestError: an unknown item, or one that is not as documented.
    """
    messages = [Message("system", instructions)] if instructions else []
    if isinstance(given, str):
        return [*messages, Message("user", given)]
    if not given:
        raise InvalidRequestError("Invalid 'input': it is empty.", field="input")
    for index, raw in enumerate(given):
        where = f"input[{index}]"
        _add(messages, convert_at(where, raw, _Item), where)
    return messages


def _add(messages: list[Message], item: _Item, where: str) -> None:
    if item.type in {None, "message"} and item.role is not None:
        messages.append(Message(item.role, _content(item.content, where)))
    elif item.type in {"function_call", "custom_tool_call"}:
        _add_call(messages, item, where)
    elif item.type in _OUTPUTS:
        content = _content(item.output, where)
        messages.append(Message("tool", content, tool_call_id=item.call_id))
    elif item.type == "item_reference" and not (item.id or "").startswith(_REASONING_IDS):
        # Without what was said, the answer would be to another conversation.
        raise InvalidRequestError(
            f"Item with id '{(item.id or '')[:64]}' not found. Items are not persisted when "
            "`store` is set to false.",
            status=HTTPStatus.NOT_FOUND,
            field="input",
        )
    elif item.type not in _SKIPPED and item.type != "item_reference":
        raise InvalidRequestError(
            f"Invalid value: '{str(item.type)[:64]}' is not supported here.", field=f"{where}.type"
        )


def _add_call(messages: list[Message], item: _Item, where: str) -> None:
    if not item.call_id or not item.name:
        field = f"{where}.{'name' if item.call_id else 'call_id'}"
        raise missing_parameter(field)
    if item.type == "custom_tool_call":
        call = ToolCall(item.call_id, "custom", custom=CustomCall(item.name, item.input))
    else:
        call = ToolCall(item.call_id, "function", FunctionCall(item.name, item.arguments))
    last = messages[-1] if messages else None
    # Calls that follow each other are one turn of the model's.
    if last is not None and last.role == "assistant" and last.tool_calls is not None:
        last.tool_calls.append(call)
    else:
        messages.append(Message("assistant", tool_calls=[call]))


def _content(content: str | list[_InputPart] | None, where: str) -> str | list[ContentPart] | None:
    if content is None or isinstance(content, str):
        return content
    return [_part(part, f"{where}.content[{index}]") for index, part in enumerate(content)]


def _part(part: _InputPart, where: str) -> ContentPart:
    if part.type in _TEXTS:
        return ContentPart("text", text=part.text)
    if part.type == "refusal":
        return ContentPart("refusal", refusal=part.refusal)
    if part.type == "input_image" and part.image_url is not None:
        return ContentPart("image_url", image_url=MediaUrl(part.image_url, part.detail))
    if part.type in {"input_image", "input_file"}:
        return ContentPart("file", file=InputFile(part.file_data, part.filename, part.file_id))
    raise InvalidRequestError(
        f"Invalid value: '{part.type[:64]}' is not supported here.", field=f"{where}.type"
    )
