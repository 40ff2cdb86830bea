"""Decide the answer to a request: pure, and the same for the same request.

The answer refers to the last user text, calls declared functions that this text names, uses the
results it is given, and conforms to the schema it is asked for.
"""

import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain, cycle, islice
from typing import Any

import msgspec

from gemini_simulator.behaviour import Behaviour, last_user_text, without_directives
from gemini_simulator.checks import declarations
from gemini_simulator.errors import invalid_argument
from gemini_simulator.messages import (
    FunctionDeclaration,
    GenerateContentRequest,
    GenerationConfig,
    Mode,
    ThinkingLevel,
)
from gemini_simulator.models import Model
from gemini_simulator.prompt import count_prompt, json_tokens
from gemini_simulator.schema import example
from gemini_simulator.signatures import sign
from gemini_simulator.tokens import count_tokens, split_tokens

_QUOTED_WORDS = 12
_MIN_TOKENS = 16
_SPREAD_TOKENS = 48
_SHARE_OF_LEVEL = {"MINIMAL": 0, "LOW": 16, "MEDIUM": 32, "HIGH": 64}
# Reasons that end an answer before it has any text, unless a directive gives it some.
_WITHOUT_TEXT = re.compile(r"STOP|MAX_TOKENS|OTHER|LANGUAGE|none")


@dataclass(frozen=True, slots=True)
class Call:
    """A function call in the answer; `tokens` is what it adds to candidatesTokenCount."""

    wire: dict[str, Any]
    tokens: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One alternative; joined, `tokens` are its text."""

    index: int
    tokens: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    thoughts: tuple[str, ...] = ()
    thought_tokens: int = 0
    finish: str | None = "STOP"
    finish_message: str | None = None
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """All that a response says, before it is cut into chunks."""

    model: Model
    response_id: str
    prompt: Counter[str]
    candidates: tuple[Candidate, ...] = field(default=())

    @property
    def tokens(self) -> int:
        """Answer tokens of all candidates."""
        return sum(
            len(candidate.tokens) + sum(call.tokens for call in candidate.calls)
            for candidate in self.candidates
        )


def build_answer(
    request: GenerateContentRequest, model: Model, behaviour: Behaviour, response_id: str
) -> Answer:
    """Decide what a model answers.

    Args:
        request: checked request.
        model: the model asked for.
        behaviour: orders of the test, if any.
        response_id: makes ids and signatures of this response its own.
    """
    prompt = count_prompt(request)
    if behaviour.block is not None or behaviour.no_candidates:
        return Answer(model, response_id, prompt)
    count = request.generation_config.candidate_count or 1
    writer = _Writer(request, model, behaviour, response_id)
    candidates = tuple(writer.candidate(index) for index in range(count))
    return Answer(model, response_id, prompt, candidates)


class _Writer:
    def __init__(
        self,
        request: GenerateContentRequest,
        model: Model,
        behaviour: Behaviour,
        response_id: str,
    ) -> None:
        self._request = request
        self._config = request.generation_config
        self._model = model
        self._behaviour = behaviour
        self._response_id = response_id
        self._text = without_directives(last_user_text(request))

    def candidate(self, index: int) -> Candidate:
        """Write one alternative within the output limit, which thinking shares."""
        behaviour = self._behaviour
        budget = self._config.max_output_tokens or self._model.output_token_limit
        thinking = min(self._thinking_tokens(), budget)
        left = budget - thinking
        calls = () if behaviour.empty_candidate else self._calls(index)
        tokens = [] if behaviour.empty_candidate else self._tokens(index, left, bool(calls))
        finish = "STOP"
        if len(tokens) + sum(call.tokens for call in calls) > left:
            tokens, calls, finish = tokens[:left], (), "MAX_TOKENS"
        elif not calls:
            tokens = self._stopped(tokens)
        message = behaviour.finish_message
        tells = self._model.generation > (2, 0)
        if calls and finish == "STOP" and message is None and tells:
            message = "Model generated function call(s)."
        if behaviour.finish is not None:
            finish = behaviour.finish
        if finish == "MALFORMED_FUNCTION_CALL" and message is None:
            message = "Malformed function call: print(default_api.call("
        signed = self._model.is_gemini_3 or (bool(calls) and self._model.signs_calls)
        return Candidate(
            index=index,
            tokens=tuple(tokens),
            calls=calls,
            thoughts=self._summaries(thinking),
            thought_tokens=thinking,
            finish=None if finish == "none" else finish,
            finish_message=message,
            signature=sign(f"{self._response_id}:{index}") if signed and thinking else None,
        )

    def _thinking_tokens(self) -> int:
        if self._behaviour.thoughts is not None:
            return self._behaviour.thoughts
        if self._model.thinking is None:
            return 0
        config = self._config.thinking_config
        if config is None:
            return self._model.thinking.default_tokens
        if config.thinking_level not in {None, ThinkingLevel.THINKING_LEVEL_UNSPECIFIED}:
            assert config.thinking_level is not None
            return _SHARE_OF_LEVEL.get(config.thinking_level.name, 64)
        if config.thinking_budget is None or config.thinking_budget < 0:
            return self._model.thinking.default_tokens or (config.thinking_budget is not None) * 32
        return min(config.thinking_budget, 16 + config.thinking_budget // 64)

    def _summaries(self, thinking: int) -> tuple[str, ...]:
        config = self._config.thinking_config
        if not thinking or config is None or not config.include_thoughts:
            return ()
        subject = " ".join(self._text.split()[:_QUOTED_WORDS])
        return (
            f"**Reading the request**\n\nI was asked: {subject}\n\n\n",
            "**Planning the answer**\n\nI will refer to what was said and keep to the form.\n\n\n",
        )

    def _calls(self, index: int) -> tuple[Call, ...]:
        functions = declarations(self._request)
        chosen = self._chosen(functions)
        ids = self._model.is_gemini_3
        calls = []
        for number, function in enumerate(chosen):
            args = self._args(function)
            wire: dict[str, Any] = {"name": function.name, "args": args}
            if self._behaviour.call_id is not None:
                wire["id"] = self._behaviour.call_id
            elif ids:
                wire["id"] = f"{zlib.crc32(f'{self._response_id}:{index}:{number}'.encode()):08x}"
            calls.append(Call(wire, count_tokens(function.name) + json_tokens(args)))
        return tuple(calls)

    def _chosen(self, functions: list[FunctionDeclaration]) -> list[FunctionDeclaration]:
        config = self._request.tool_config
        calling = config.function_calling_config if config else None
        mode = calling.mode if calling else None
        if not functions or mode is Mode.NONE:
            return []
        allowed = (calling.allowed_function_names if calling else []) or [f.name for f in functions]
        offered = [function for function in functions if function.name in allowed]
        answered = {name for name, _ in _results(self._request)}
        if self._behaviour.call is not None:
            wanted = self._behaviour.call.split(",")
            by_name = {function.name: function for function in functions}
            missing = [name for name in wanted if name not in by_name]
            if missing:
                raise invalid_argument(f"Simulator directive: no function {missing[0]!r} offered")
            return [] if answered & set(wanted) else [by_name[name] for name in wanted]
        named = [function for function in offered if _names(self._text, function.name)]
        if mode is Mode.ANY:
            return named or offered[:1]
        return [function for function in named if function.name not in answered]

    def _args(self, function: FunctionDeclaration) -> Any:
        if self._behaviour.args is not None:
            try:
                return msgspec.json.decode(self._behaviour.args)
            except msgspec.DecodeError as error:
                raise invalid_argument(f"Simulator directive: args: {error}") from error
        schema = function.parameters_json_schema
        if function.parameters is not None:
            schema = msgspec.to_builtins(function.parameters)
        made = {} if schema is None else example(schema, function.name)
        # On the wire they are a Struct, whatever a schema asks for.
        return made if isinstance(made, dict) else {}

    def _tokens(self, index: int, left: int, has_calls: bool) -> list[str]:
        behaviour = self._behaviour
        if behaviour.answer is not None:
            return split_tokens(behaviour.answer)
        silent = behaviour.finish is not None and not _WITHOUT_TEXT.fullmatch(behaviour.finish)
        if (has_calls or silent) and not behaviour.tokens:
            return []
        wanted = _wanted_json(self._config)
        if wanted is not None and not behaviour.echo:
            return split_tokens(wanted)
        opening = self._text if behaviour.echo else self._opening(index)
        if behaviour.tokens is None:
            if behaviour.echo:
                return split_tokens(opening)
            length = _MIN_TOKENS + zlib.crc32(self._text.encode()) % _SPREAD_TOKENS
        else:
            length = behaviour.tokens
        # One token too many shows that the limit cut the answer; more would be work for nothing.
        return list(islice(self._endless(opening), min(length, left + 1)))

    def _opening(self, index: int) -> str:
        prefix = f"Answer {index + 1}. " if index else ""
        results = _results(self._request)
        if results:
            said = ", ".join(f"{name} returned {value}" for name, value in results)
            return f"{prefix}According to the tools, {said}."
        words = " ".join(self._text.split()[:_QUOTED_WORDS])
        return f'{prefix}You said: "{words}".'

    def _endless(self, opening: str) -> Any:
        words = re.findall(r"\w+", self._text)[:64] or ["nothing"]
        more = cycle([f" This answer goes on about {word}." for word in words])
        return chain(split_tokens(opening), chain.from_iterable(map(split_tokens, more)))

    def _stopped(self, tokens: list[str]) -> list[str]:
        if not self._config.stop_sequences:
            return tokens
        text = "".join(tokens)
        ends = [text.find(stop) for stop in self._config.stop_sequences if stop]
        found = [end for end in ends if end >= 0]
        return split_tokens(text[: min(found)]) if found else tokens


def _results(request: GenerateContentRequest) -> list[tuple[str, str]]:
    """Return names and JSON of the results given since the last ordinary user message."""
    results: list[tuple[str, str]] = []
    for content in reversed(request.contents):
        if content.role == "model":
            continue
        here = [part.function_response for part in content.parts if part.function_response]
        if not here:
            break
        results[:0] = [(r.name, msgspec.json.encode(r.response or {}).decode()) for r in here]
    return results


def _names(text: str, function: str) -> bool:
    spelled = re.escape(function).replace("_", "[_ ]")
    return (
        re.search(rf"(?<![A-Za-z0-9_]){spelled}(?![A-Za-z0-9_])", text, re.IGNORECASE) is not None
    )


def _wanted_json(config: GenerationConfig) -> str | None:
    """Return the whole text of an answer that has to conform to a schema; None for free text."""
    schema = config.response_json_schema
    if config.response_schema is not None:
        schema = msgspec.to_builtins(config.response_schema)
    if config.response_mime_type == "application/json":
        value = {"answer": "This is JSON."} if schema is None else example(schema, "answer")
        return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    if config.response_mime_type == "text/x.enum":
        return str(example(schema, "answer"))
    return None
