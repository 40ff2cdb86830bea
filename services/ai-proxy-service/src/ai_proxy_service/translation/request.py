"""An OpenAI chat request as a Gemini `generateContent` body. Pure functions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ai_proxy_service.core.authorisation import prompt_bound_tokens
from ai_proxy_service.core.errors import InvalidRequestError, missing_parameter
from ai_proxy_service.core.gemini import GenerateContentBody
from ai_proxy_service.core.interfaces import Media
from ai_proxy_service.core.pricing import ModelPrice
from ai_proxy_service.translation.checks import check_for_model, check_options
from ai_proxy_service.translation.generation import (
    generation_config,
    output_limit,
    service_tier,
)
from ai_proxy_service.translation.google_options import (
    SAFETY_CATEGORIES,
    GoogleOptions,
    Threshold,
    google_options,
    server_tools,
)
from ai_proxy_service.translation.messages import Conversation, with_placeholders
from ai_proxy_service.translation.model_traits import ModelTraits, model_traits
from ai_proxy_service.translation.openai_types import ChatRequest
from ai_proxy_service.translation.parts import Attachments, remote_url
from ai_proxy_service.translation.responses_input import take_responses_form
from ai_proxy_service.translation.tools import Toolbox, choose_tools, read_tools
from service_kit.body import decode_body

_DECODER = msgspec.json.Decoder(ChatRequest)
_SHOWABLE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
IGNORED_SHOWN_MAX = 32
_SEARCH: dict[str, Any] = {"googleSearch": {}}
# What Google's own tools may add to the prompt; Gemini reports it, but only afterwards.
_SERVER_TOOL_TOKENS = {"googleSearch": 16_384, "codeExecution": 16_384, "urlContext": 131_072}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a translation depends on besides the request.

    Attributes:
        price: what the model costs, and with that, what it can do.
        fetched: files that the messages name by URL.
        known: what is remembered of calls, by id.
        safety_threshold: the operator's, where the request has none.
    """

    price: ModelPrice
    fetched: Mapping[str, Media] = field(default_factory=dict)
    known: Mapping[str, bytes] = field(default_factory=dict)
    safety_threshold: Threshold | None = None


@dataclass(slots=True)
class TranslatedChat:
    """A chat request in Gemini's form.

    Attributes:
        body: the `generateContent` body.
        toolbox: the tools, for the way back.
        max_output_tokens: the output limit that the client set; None if it set none.
        prompt_bound_tokens: the most tokens that the prompt can have; None if only the model's
            own limit is known.
        tier: Google's service tier that was asked for.
        lookups_pico: what Google's own tools may cost besides tokens, in pico-USD.
        audible: the prompt may have sound, which costs more than text.
        input_may_grow: it has tools or files, whose tokens Gemini may report late.
        signed: the body has thought signatures of earlier answers.
        ignored: names of parameters that have no effect.
    """

    body: GenerateContentBody
    toolbox: Toolbox
    max_output_tokens: int | None
    prompt_bound_tokens: int | None
    tier: str
    lookups_pico: int
    audible: bool
    input_may_grow: bool
    signed: bool
    ignored: list[str]

    def without_signatures(self) -> GenerateContentBody:
        """Return the body with placeholders for all thought signatures."""
        return {**self.body, "contents": with_placeholders(self.body["contents"])}


def parse_chat(body: bytes) -> ChatRequest:
    """Decode and check a chat request.

    Raises:
        InvalidBodyError: malformed, or a field of the wrong type or range.
        InvalidRequestError: fields that contradict each other or ask for what is not there.
    """
    chat = decode_body(body, _DECODER)
    if chat.messages is None:
        if chat.input is None:
            raise missing_parameter("messages")
        take_responses_form(chat)
    check_options(chat)
    return chat


def to_gemini(chat: ChatRequest, model: str, around: Surroundings) -> TranslatedChat:
    """Translate a checked request for a model.

    Raises:
        InvalidRequestError: something in it can't be translated, or not for this model.
    """
    traits, options = model_traits(model), google_options(chat)
    check_for_model(chat, traits, around.price)
    toolbox = read_tools(chat)
    calling = choose_tools(chat, toolbox)
    attachments = Attachments(around.fetched)
    conversation = Conversation(toolbox.names, traits, attachments, around.known)
    for index, message in enumerate(chat.messages or ()):
        conversation.add(message, f"messages[{index}]")
    conversation.finish()
    body = _body(conversation)
    own_tools = _own_tools(options, toolbox, around.price)
    config, ignored = generation_config(chat, options, model)
    if toolbox.declarations and not traits.is_third:
        _move_schema_into_instruction(body, config)
    _add_tools(body, toolbox, own_tools, calling, traits)
    _add_safety(body, options, around.safety_threshold)
    if options.cached_content is not None:
        body["cachedContent"] = options.cached_content
    if config:
        body["generationConfig"] = config
    tier, wanted = service_tier(chat, around.price)
    if wanted is not None:
        body["serviceTier"] = wanted
    return TranslatedChat(
        body=body,
        toolbox=toolbox,
        max_output_tokens=output_limit(chat),
        prompt_bound_tokens=_prompt_bound(body, attachments, own_tools),
        tier=tier,
        lookups_pico=around.price.lookups_bound_pico(search=_searches(own_tools), maps=False),
        audible=attachments.audible or "cachedContent" in body,
        input_may_grow="tools" in body or attachments.tokens > 0 or attachments.of_unknown_size,
        signed=conversation.signed,
        ignored=ignored,
    )


def _body(conversation: Conversation) -> GenerateContentBody:
    contents, instructions = conversation.contents, conversation.instructions
    if not contents:
        # Gemini needs somebody to answer to.
        contents, instructions = [{"role": "user", "parts": instructions}], []
    if not contents[0]["parts"]:
        raise InvalidRequestError("The messages have no content.", field="messages")
    body: GenerateContentBody = {"contents": contents}
    if instructions:
        body["systemInstruction"] = {"parts": instructions}
    return body


def _own_tools(options: GoogleOptions, toolbox: Toolbox, price: ModelPrice) -> list[dict[str, Any]]:
    """Return Google's own tools, if what they cost is known."""
    tools = server_tools(options)
    if toolbox.searches and _SEARCH not in tools:
        tools.append(_SEARCH)
    if not price.can_search and _searches(tools):
        raise InvalidRequestError(
            "The model can't search the web here.",
            code="unsupported_parameter",
            field="web_search_options" if toolbox.searches else "google.tools",
        )
    return tools


def _searches(tools: list[dict[str, Any]]) -> bool:
    return any("googleSearch" in tool for tool in tools)


def _add_tools(
    body: GenerateContentBody,
    toolbox: Toolbox,
    own_tools: list[dict[str, Any]],
    calling: dict[str, Any] | None,
    traits: ModelTraits,
) -> None:
    tools = list(own_tools)
    if toolbox.declarations:
        tools.insert(0, {"functionDeclarations": toolbox.declarations})
    if not tools:
        return
    body["tools"] = tools
    config: dict[str, Any] = {}
    if calling is not None:
        config["functionCallingConfig"] = calling
    if toolbox.declarations and own_tools and traits.is_third:
        # So Gemini shows its own tools' calls, which have to come back with the functions'.
        config["includeServerSideToolInvocations"] = True
    if config:
        body["toolConfig"] = config


def _move_schema_into_instruction(body: GenerateContentBody, config: dict[str, Any]) -> None:
    """Ask for JSON in words: models before Gemini 3 refuse to combine it with functions."""
    if config.pop("responseMimeType", None) is None:
        return
    schema = config.pop("responseJsonSchema", None)
    words = "When you do not call a function, answer with JSON only, without a code fence"
    words += f", conforming to this JSON schema: {_json(schema)}" if schema is not None else "."
    instruction = body.setdefault("systemInstruction", {"parts": []})
    instruction["parts"] = [*instruction["parts"], {"text": words}]


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _add_safety(
    body: GenerateContentBody, options: GoogleOptions, default: Threshold | None
) -> None:
    settings: dict[str, str] = dict.fromkeys(SAFETY_CATEGORIES, default) if default else {}
    for setting in options.safety_settings or ():
        settings[_category(setting.category)] = setting.threshold
    if settings:
        body["safetySettings"] = [
            {"category": category, "threshold": threshold}
            for category, threshold in settings.items()
        ]


def _category(name: str) -> str:
    full = name.upper()
    return full if full.startswith("HARM_CATEGORY_") else f"HARM_CATEGORY_{full}"


def _prompt_bound(
    body: GenerateContentBody, attachments: Attachments, own_tools: list[dict[str, Any]]
) -> int | None:
    """Return an upper bound on the prompt: a byte of text is at most a token."""
    if attachments.of_unknown_size or "cachedContent" in body:
        return None
    added = sum(_SERVER_TOOL_TOKENS.get(name, 0) for tool in own_tools for name in tool)
    text_bytes = len(msgspec.json.encode(body)) - attachments.base64_chars
    return prompt_bound_tokens(text_bytes) + attachments.tokens + added


def remote_urls(chat: ChatRequest) -> dict[str, str]:
    """Return the URLs of files that have to be fetched, each with the path of its first mention."""
    found: dict[str, str] = {}
    for index, message in enumerate(chat.messages or ()):
        if isinstance(message.content, list):
            for place, part in enumerate(message.content):
                url = remote_url(part)
                if url is not None:
                    found.setdefault(url, f"messages[{index}].content[{place}].image_url.url")
    return found


def ignored_names(body: bytes, known: type[msgspec.Struct] = ChatRequest) -> list[str]:
    """Return the names in a body that mean nothing here, as far as a header can show them.

    Args:
        body: a JSON object that has been decoded already.
        known: the type that it was decoded into.
    """
    given = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    meant = known.__struct_fields__
    return [
        name
        for name, value in given.items()
        if name not in meant and bytes(value) != b"null" and _SHOWABLE.fullmatch(name)
    ][:IGNORED_SHOWN_MAX]
