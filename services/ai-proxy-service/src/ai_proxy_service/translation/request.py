"""An OpenAI chat request as a Gemini `generateContent` body. Pure functions."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.core.gemini import GenerateContentBody
from ai_proxy_service.core.order import SMALL_LIMIT_TOKENS
from ai_proxy_service.translation.openai_types import ChatRequest, ContentPart, Message
from ai_proxy_service.translation.thinking import EFFORTS, thinking_traits
from service_kit.body import decode_body

STOPS_MAX = 4
SEED_BITS = 31
INSTRUCTING_ROLES = frozenset({"system", "developer"})
SPEAKING_ROLES = {"user": "user", "assistant": "model", "model": "model"}

_DECODER = msgspec.json.Decoder(ChatRequest)
# What these ask for would change the answer; it is refused until it is supported.
_UNSUPPORTED = ("tools", "functions", "audio", "web_search_options")
_WITHOUT_EFFECT = (
    *("frequency_penalty", "presence_penalty", "verbosity", "prediction", "service_tier"),
)


@dataclass(slots=True)
class TranslatedChat:
    """A chat request in Gemini's form.

    Attributes:
        body: the `generateContent` body.
        max_output_tokens: the output limit that the client set; None if it set none.
        ignored: names of parameters that have no effect.
    """

    body: GenerateContentBody
    max_output_tokens: int | None
    ignored: list[str] = field(default_factory=list)


def parse_chat(body: bytes) -> ChatRequest:
    """Decode and check a chat request.

    Raises:
        InvalidBodyError: malformed, or a field of the wrong type or range.
        InvalidRequestError: fields that contradict each other or ask for what is not there.
    """
    chat = decode_body(body, _DECODER)
    _check_options(chat)
    return chat


def _check_options(chat: ChatRequest) -> None:
    if chat.stream_options is not None and not chat.stream:
        raise InvalidRequestError(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            field="stream_options",
        )
    for name in _UNSUPPORTED:
        if getattr(chat, name):
            raise _unsupported(name)
    if chat.n not in {None, 1}:
        raise _unsupported("n", "Only one choice per request is supported.")
    if chat.logprobs or chat.top_logprobs:
        raise _unsupported("logprobs")
    if chat.logit_bias:
        raise _unsupported("logit_bias")
    if chat.modalities not in (None, ["text"]):
        raise _unsupported("modalities", "Only text is supported.")
    if chat.reasoning_effort is not None and chat.reasoning_effort not in EFFORTS:
        raise InvalidRequestError(
            f"Invalid value for 'reasoning_effort'. Supported values are: {', '.join(EFFORTS)}.",
            field="reasoning_effort",
        )


def _unsupported(name: str, why: str = "") -> InvalidRequestError:
    text = f"The '{name}' parameter is not supported here. {why}".strip()
    return InvalidRequestError(text, code="unsupported_parameter", field=name)


def to_gemini(chat: ChatRequest, model: str) -> TranslatedChat:
    """Translate a checked request for a model.

    Raises:
        InvalidRequestError: a message or part that can't be translated.
    """
    contents, instructions = _conversation(chat.messages)
    if not contents:
        # Gemini needs somebody to answer to.
        contents, instructions = [{"role": "user", "parts": instructions}], []
    if not contents[0]["parts"]:
        raise InvalidRequestError("The messages have no content.", field="messages")
    body: GenerateContentBody = {"contents": contents}
    if instructions:
        body["systemInstruction"] = {"parts": instructions}
    limit = chat.max_completion_tokens or chat.max_tokens
    config = _generation_config(chat, model, limit)
    if config:
        body["generationConfig"] = config
    ignored = [name for name in _WITHOUT_EFFECT if getattr(chat, name) not in (None, 0)]
    return TranslatedChat(body, limit, ignored)


def _conversation(
    messages: list[Message],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the turns, runs of one side joined, and the instructions, in order."""
    contents: list[dict[str, Any]] = []
    instructions: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.role in INSTRUCTING_ROLES:
            instructions += _parts(message, where)
            continue
        role = SPEAKING_ROLES.get(message.role)
        if role is None:
            raise InvalidRequestError(
                f"Invalid value: '{message.role[:64]}'. Supported values are: 'system', "
                "'developer', 'user' and 'assistant'.",
                field=f"{where}.role",
            )
        if message.tool_calls or message.function_call:
            raise InvalidRequestError(
                "Tool calls are not supported here.",
                code="unsupported_parameter",
                field=f"{where}.tool_calls",
            )
        parts = _parts(message, where)
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    return contents, instructions


def _parts(message: Message, where: str) -> list[dict[str, Any]]:
    """Return a message's text as parts; empty ones are left out, as Gemini refuses them."""
    content = message.content
    if isinstance(content, str):
        texts = [content]
    elif content is None:
        texts = [message.refusal or ""]
    else:
        texts = [_text(part, f"{where}.content[{index}]") for index, part in enumerate(content)]
    return [{"text": text} for text in texts if text]


def _text(part: ContentPart, where: str) -> str:
    if part.type == "text":
        if part.text is None:
            raise InvalidRequestError(
                f"Missing required parameter: '{where}.text'.",
                code="missing_required_parameter",
                field=f"{where}.text",
            )
        return part.text
    if part.type == "refusal":
        return part.refusal or ""
    raise InvalidRequestError(
        f"Invalid value: '{part.type[:64]}'. Supported values are: 'text' and 'refusal'.",
        field=f"{where}.type",
    )


def _generation_config(chat: ChatRequest, model: str, limit: int | None) -> dict[str, Any]:
    config: dict[str, Any] = {}
    plain = {
        "temperature": chat.temperature,
        "topP": chat.top_p,
        "topK": chat.top_k,
        "maxOutputTokens": limit,
        "seed": None if chat.seed is None else chat.seed % (1 << SEED_BITS),
    }
    config.update({name: value for name, value in plain.items() if value is not None})
    stops = _stops(chat.stop)
    if stops:
        config["stopSequences"] = stops
    config.update(_response_format(chat))
    effort = chat.reasoning_effort
    if effort is None and limit is not None and limit < SMALL_LIMIT_TOKENS:
        effort = "none"
    thinking = thinking_traits(model).config(effort)
    if thinking is not None:
        config["thinkingConfig"] = thinking
    return config


def least_thinking(chat: ChatRequest, model: str) -> dict[str, Any] | None:
    """Return the setting of least thinking; None if the client chose one, or there is none."""
    return thinking_traits(model).config("none") if chat.reasoning_effort is None else None


def _stops(stop: str | list[str] | None) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > STOPS_MAX:
        raise InvalidRequestError(
            f"Invalid 'stop': expected at most {STOPS_MAX} sequences, got {len(stops)}.",
            field="stop",
        )
    return [text for text in stops if text]


def _response_format(chat: ChatRequest) -> dict[str, Any]:
    wanted = chat.response_format
    if wanted is None or wanted.type == "text":
        return {}
    if wanted.type == "json_object":
        return {"responseMimeType": "application/json"}
    if wanted.type == "json_schema":
        if wanted.json_schema is None:
            raise InvalidRequestError(
                "Missing required parameter: 'response_format.json_schema'.",
                code="missing_required_parameter",
                field="response_format.json_schema",
            )
        config: dict[str, Any] = {"responseMimeType": "application/json"}
        if wanted.json_schema.schema is not None:
            config["responseJsonSchema"] = wanted.json_schema.schema
        return config
    raise InvalidRequestError(
        f"Invalid value: '{wanted.type[:64]}'. Supported values are: 'text', 'json_object' and "
        "'json_schema'.",
        field="response_format.type",
    )
