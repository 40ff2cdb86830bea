"""The parameters of a chat request as Gemini's `generationConfig`."""

from typing import Any

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.core.order import SMALL_LIMIT_TOKENS
from ai_proxy_service.core.pricing import ModelPrice
from ai_proxy_service.core.usage import STANDARD_TIER
from ai_proxy_service.translation.checks import unsupported
from ai_proxy_service.translation.google_options import GoogleOptions, ThinkingOptions
from ai_proxy_service.translation.model_traits import model_traits
from ai_proxy_service.translation.openai_types import ChatRequest
from ai_proxy_service.translation.thinking import thinking_traits
from ai_proxy_service.translation.tools import without_dialect
from ai_proxy_service.translation.voices import speech_config

SEED_BITS = 31
_TIERS = {"flex": "flex", "priority": "priority", "fast": "priority"}
_PENALTIES = ("frequency_penalty", "presence_penalty")


def output_limit(chat: ChatRequest) -> int | None:
    """Return the output limit that the client set, by whichever of its names."""
    return chat.max_completion_tokens or chat.max_tokens or chat.max_output_tokens


def generation_config(
    chat: ChatRequest, options: GoogleOptions, model: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the configuration, and the names of parameters that this model ignores.

    Raises:
        InvalidRequestError: two ways of setting the same thing.
    """
    limit = output_limit(chat)
    sampling = {
        "temperature": chat.temperature,
        "top_p": chat.top_p,
        "top_k": options.top_k if options.top_k is not None else chat.top_k,
    }
    ignored: list[str] = [name for name in _PENALTIES if getattr(chat, name)]
    if not model_traits(model).samples:
        ignored += [name for name, value in sampling.items() if value is not None]
        sampling = dict.fromkeys(sampling)
    thinking = _thinking(chat, options.thinking_config, model, limit)
    if thinking is None and chat.reasoning_effort is not None:
        ignored.append("reasoning_effort")
    values = {
        "temperature": sampling["temperature"],
        "topP": sampling["top_p"],
        "topK": sampling["top_k"],
        "maxOutputTokens": limit,
        "candidateCount": chat.n if chat.n != 1 else None,
        "seed": None if chat.seed is None else chat.seed % (1 << SEED_BITS),
        "stopSequences": _stops(chat.stop) or None,
        "mediaResolution": options.media_resolution
        and f"MEDIA_RESOLUTION_{options.media_resolution}",
        "thinkingConfig": thinking,
        **_logprobs(chat),
        **_response_format(chat),
        **_modalities(chat),
    }
    return {name: value for name, value in values.items() if value is not None}, ignored


def least_thinking(chat: ChatRequest, model: str) -> dict[str, Any] | None:
    """Return the setting of least thinking; None if the client chose one, or there is none."""
    if chat.reasoning_effort is not None or chat.reasoning is not None:
        return None
    return thinking_traits(model).config("none")


def service_tier(chat: ChatRequest, price: ModelPrice) -> tuple[str, str | None]:
    """Return the tier that prices go by, and what to ask Gemini for.

    Raises:
        InvalidRequestError: the tier has no price for this model.
    """
    tier = _TIERS.get(chat.service_tier or "")
    if tier is None:
        return STANDARD_TIER, None
    if tier not in price.tiers:
        raise unsupported("service_tier", f"The model is not sold at '{chat.service_tier}' here.")
    return tier, tier.upper()


def _stops(stop: str | list[str] | None) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop or []
    return [text for text in stops if text]


def _logprobs(chat: ChatRequest) -> dict[str, Any]:
    if not chat.logprobs:
        return {}
    return {"responseLogprobs": True, "logprobs": chat.top_logprobs}


def _response_format(chat: ChatRequest) -> dict[str, Any]:
    wanted = chat.response_format
    if wanted is None or wanted.type == "text":
        return {}
    config: dict[str, Any] = {"responseMimeType": "application/json"}
    if wanted.json_schema is not None and wanted.json_schema.schema is not None:
        config["responseJsonSchema"] = without_dialect(wanted.json_schema.schema)
    return config


def _modalities(chat: ChatRequest) -> dict[str, Any]:
    wanted = set(chat.modalities or ())
    if "audio" in wanted or chat.audio is not None:
        return {"responseModalities": ["AUDIO"], "speechConfig": speech_config(chat.audio)}
    if "image" in wanted:
        return {"responseModalities": ["TEXT", "IMAGE"]}
    return {}


def _thinking(
    chat: ChatRequest, options: ThinkingOptions | None, model: str, limit: int | None
) -> dict[str, Any] | None:
    traits, reasoning = thinking_traits(model), chat.reasoning
    effort = chat.reasoning_effort
    if options is not None:
        if effort is not None or reasoning is not None:
            raise InvalidRequestError(
                "'reasoning_effort' can't be combined with Google's 'thinking_config'.",
                field="reasoning_effort",
            )
        return _own_thinking(options)
    summaries = reasoning is None or not reasoning.exclude
    if effort is None and reasoning is not None:
        effort = "none" if reasoning.enabled is False else reasoning.effort
        if effort is None and reasoning.max_tokens is not None:
            return traits.config_for_tokens(reasoning.max_tokens, summaries=summaries)
    if effort is None and limit is not None and limit < SMALL_LIMIT_TOKENS:
        effort = "none"
    return traits.config(effort, summaries=summaries)


def _own_thinking(options: ThinkingOptions) -> dict[str, Any]:
    if options.thinking_budget is not None and options.thinking_level is not None:
        raise InvalidRequestError(
            "'thinking_budget' and 'thinking_level' can't be combined.",
            field="google.thinking_config",
        )
    config = {
        "thinkingBudget": options.thinking_budget,
        "thinkingLevel": options.thinking_level,
        "includeThoughts": options.include_thoughts,
    }
    return {name: value for name, value in config.items() if value is not None}
