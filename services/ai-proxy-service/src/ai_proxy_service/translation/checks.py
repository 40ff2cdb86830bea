"""Options of a chat request that contradict each other, or that nothing here can honour.

Refused is only what would silently change the answer; everything else is ignored and named in
`x-proxy-ignored-params`.
"""

from ai_proxy_service.core.errors import InvalidRequestError, missing_parameter
from ai_proxy_service.core.pricing import ModelPrice
from ai_proxy_service.translation.model_traits import ModelTraits
from ai_proxy_service.translation.openai_types import ChatRequest
from ai_proxy_service.translation.thinking import EFFORTS

STOPS_MAX = 4
SERVICE_TIERS = ("auto", "default", "flex", "scale", "priority", "fast")


def check_options(chat: ChatRequest) -> None:
    """Check what does not depend on the model.

    Raises:
        InvalidRequestError: options that contradict each other or are not supported.
    """
    if chat.stream_options is not None and not chat.stream:
        raise InvalidRequestError(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            field="stream_options",
        )
    if chat.logit_bias:
        raise unsupported("logit_bias")
    if chat.previous_response_id is not None:
        raise InvalidRequestError(
            "Previous response not found: responses are not stored.",
            code="previous_response_not_found",
            field="previous_response_id",
        )
    if chat.conversation is not None:
        raise unsupported("conversation", "Nothing is stored.")
    if chat.top_logprobs is not None and not chat.logprobs:
        raise InvalidRequestError(
            "'top_logprobs' is only allowed when 'logprobs' is enabled.", field="top_logprobs"
        )
    if isinstance(chat.stop, list) and len(chat.stop) > STOPS_MAX:
        raise InvalidRequestError(
            f"Invalid 'stop': expected at most {STOPS_MAX} sequences, got {len(chat.stop)}.",
            field="stop",
        )
    _check_one_of(chat.reasoning_effort, EFFORTS, "reasoning_effort")
    if chat.reasoning is not None:
        _check_one_of(chat.reasoning.effort, EFFORTS, "reasoning.effort")
    _check_one_of(chat.service_tier, SERVICE_TIERS, "service_tier")
    wanted = chat.response_format
    if wanted is not None:
        _check_one_of(wanted.type, ("text", "json_object", "json_schema"), "response_format.type")
        if wanted.type == "json_schema" and wanted.json_schema is None:
            raise missing_parameter("response_format.json_schema")


def check_for_model(chat: ChatRequest, traits: ModelTraits, price: ModelPrice) -> None:
    """Check what depends on the model.

    Raises:
        InvalidRequestError: the model can't do it.
    """
    if (chat.n or 1) > traits.candidates_max:
        raise InvalidRequestError(
            f"Invalid 'n': the model gives at most {traits.candidates_max} at a time.", field="n"
        )
    for modality in chat.modalities or ():
        if modality not in price.output_modalities and not (
            # A speaking model's text is what it says.
            modality == "text" and "audio" in price.output_modalities
        ):
            raise unsupported("modalities", f"The model can't answer with '{modality[:64]}'.")
    if chat.audio is not None and "audio" not in price.output_modalities:
        raise unsupported("audio", "The model can't speak.")


def unsupported(name: str, why: str = "") -> InvalidRequestError:
    """Return the error for a parameter that would change the answer but can't be honoured."""
    text = f"The '{name}' parameter is not supported here. {why}".strip()
    return InvalidRequestError(text, code="unsupported_parameter", field=name)


def _check_one_of(value: str | None, values: tuple[str, ...], name: str) -> None:
    if value is not None and value not in values:
        raise InvalidRequestError(
            f"Invalid value for '{name}'. Supported values are: {', '.join(values)}.", field=name
        )
