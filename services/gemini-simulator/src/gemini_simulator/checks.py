"""Refuse options that the asked model would refuse."""

import re

from gemini_simulator.errors import ApiError, invalid_argument, token_limit
from gemini_simulator.history import check_history
from gemini_simulator.messages import (
    FunctionDeclaration,
    GenerateContentRequest,
    GenerationConfig,
    Mode,
    ResponseModality,
    ThinkingConfig,
    ThinkingLevel,
)
from gemini_simulator.models import Model, Thinking

_FUNCTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
_MAX_STOP_SEQUENCES = 5
_MAX_CANDIDATES = 8
_MAX_TEMPERATURE = 2
_DYNAMIC_BUDGET = -1


def check_request(request: GenerateContentRequest, model: Model, prompt_tokens: int) -> None:
    """Check a request against the model that is to answer it.

    Raises:
        ApiError: as the service refuses it.
    """
    check_history(request.contents, model)
    if request.cached_content:
        raise ApiError(403, "CachedContent not found (or permission denied)")
    if prompt_tokens > model.input_token_limit:
        raise token_limit(prompt_tokens, model.input_token_limit)
    _check_config(request.generation_config, model)
    _check_thinking(request.generation_config.thinking_config, model)
    _check_tools(request, model)


def declarations(request: GenerateContentRequest) -> list[FunctionDeclaration]:
    """Return all functions that a request offers."""
    return [function for tool in request.tools for function in tool.function_declarations]


def _check_config(config: GenerationConfig, model: Model) -> None:
    if config.candidate_count is not None and config.candidate_count != 1:
        if model.is_gemini_3:
            raise invalid_argument("Multiple candidates is not enabled for this model")
        if not 1 <= config.candidate_count <= _MAX_CANDIDATES:
            raise invalid_argument(
                f"* GenerateContentRequest.generation_config.candidate_count: must be from 1 to "
                f"{_MAX_CANDIDATES}.\n"
            )
    limit = model.output_token_limit
    if config.max_output_tokens is not None and not 1 <= config.max_output_tokens <= limit:
        raise invalid_argument(
            f"Unable to submit request because it has a maxOutputTokens value of "
            f"{config.max_output_tokens} but the supported range is from 1 (inclusive) to "
            f"{limit + 1} (exclusive). Update the value and try again."
        )
    if config.temperature is not None and not 0 <= config.temperature <= _MAX_TEMPERATURE:
        raise invalid_argument(
            "* GenerateContentRequest.generation_config.temperature: temperature must be in the "
            "range [0.0, 2.0].\n"
        )
    if len(config.stop_sequences) > _MAX_STOP_SEQUENCES:
        raise invalid_argument(
            "* GenerateContentRequest.generation_config.stop_sequences: at most "
            f"{_MAX_STOP_SEQUENCES} stop sequences are allowed.\n"
        )
    if (config.presence_penalty or config.frequency_penalty) and model.generation > (2, 0):
        raise invalid_argument("Penalty is not enabled for this model")
    if config.response_logprobs:
        raise invalid_argument(f"Logprobs is not enabled for models/{model.name}")
    _check_output_form(config)


def _check_output_form(config: GenerationConfig) -> None:
    if set(config.response_modalities) - {
        ResponseModality.TEXT,
        ResponseModality.MODALITY_UNSPECIFIED,
    }:
        raise invalid_argument(
            "The requested combination of response modalities is not supported by the model."
        )
    schemas = (config.response_schema, config.response_json_schema)
    if all(schema is not None for schema in schemas):
        raise invalid_argument("Only one of response_schema and response_json_schema may be set.")
    wanted = config.response_mime_type
    if wanted not in {"", "text/plain", "application/json", "text/x.enum"}:
        raise invalid_argument(
            "* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes are "
            "`text/plain`, `application/json`, `application/xml`, `application/yaml` and "
            "`text/x.enum`.\n"
        )
    if wanted in {"", "text/plain"} and any(schema is not None for schema in schemas):
        raise invalid_argument(
            "Response schema with a response mime type: 'text/plain' is unsupported"
        )


def _check_thinking(config: ThinkingConfig | None, model: Model) -> None:
    if config is None:
        return
    level = config.thinking_level
    if level is ThinkingLevel.THINKING_LEVEL_UNSPECIFIED:
        level = None
    budget, thinking = config.thinking_budget, model.thinking
    if level is not None and budget is not None:
        raise invalid_argument("You can only set only one of thinking budget and thinking level.")
    if thinking is None:
        if level is not None or budget or config.include_thoughts:
            raise invalid_argument("Thinking is not enabled for this model.")
        return
    if level is not None:
        _check_level(level, thinking)
    if budget is not None:
        _check_budget(budget, thinking)


def _check_level(level: ThinkingLevel, thinking: Thinking) -> None:
    if not thinking.levels:
        raise invalid_argument("Thinking level is not supported for this model.")
    if level.name not in thinking.levels:
        raise invalid_argument(
            f"Thinking level {level.name} is not supported for this model. Please retry with "
            "other thinking level."
        )


def _check_budget(budget: int, thinking: Thinking) -> None:
    if budget == 0 and not thinking.can_be_off:
        raise invalid_argument("Budget 0 is invalid. This model only works in thinking mode.")
    in_range = thinking.minimum <= budget <= thinking.maximum
    if budget not in {0, _DYNAMIC_BUDGET} and not in_range:
        raise invalid_argument(
            f"The thinking budget {budget} is invalid. Please choose a value between "
            f"{thinking.minimum} and {thinking.maximum}."
        )


def _check_tools(request: GenerateContentRequest, model: Model) -> None:
    functions = declarations(request)
    names = [function.name for function in functions]
    for index, function in enumerate(functions):
        where = f"* GenerateContentRequest.tools[0].function_declarations[{index}]"
        if not _FUNCTION_NAME.fullmatch(function.name):
            raise invalid_argument(
                f"{where}.name: Invalid function name. Must start with a letter or an underscore.\n"
            )
        if function.parameters is not None and function.parameters_json_schema is not None:
            raise invalid_argument(
                f"{where}: only one of parameters and parameters_json_schema may be set.\n"
            )
    if len(set(names)) != len(names):
        raise invalid_argument("Duplicate function declaration found.")
    calling = request.tool_config.function_calling_config if request.tool_config else None
    allowed = calling.allowed_function_names if calling else []
    if calling and allowed and calling.mode not in {Mode.ANY, Mode.VALIDATED}:
        raise invalid_argument(
            "Allowed function names may only be set when function calling mode is ANY."
        )
    unknown = [name for name in allowed if name not in names]
    if unknown:
        raise invalid_argument(f"Allowed function name {unknown[0]!r} is not declared.")
    if functions:
        _check_combinations(request, model)


def _check_combinations(request: GenerateContentRequest, model: Model) -> None:
    mime_type = request.generation_config.response_mime_type
    if mime_type == "application/json" and not model.is_gemini_3:
        raise invalid_argument(
            "Function calling with a response mime type: 'application/json' is unsupported"
        )
    if any(tool.is_server_side() for tool in request.tools):
        if not model.is_gemini_3:
            raise invalid_argument("Tool use with function calling is unsupported")
        if not (request.tool_config and request.tool_config.include_server_side_tool_invocations):
            raise invalid_argument(
                "Please enable tool_config.include_server_side_tool_invocations to use Built-in "
                "tools with Function calling."
            )
