"""The messages of an OpenAI conversation as Gemini's contents. Pure, and one pass over them.

Gemini's rules, from https://ai.google.dev/gemini-api/docs/function-calling and from what it
refuses: a turn's calls stand in one content, all their results in the next one, in the same
order, each with the id and the name of its call.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ai_proxy_service.core.errors import InvalidRequestError, missing_parameter
from ai_proxy_service.translation.model_traits import ModelTraits
from ai_proxy_service.translation.openai_types import FunctionCall, Message, ToolCall
from ai_proxy_service.translation.parts import Attachments, gemini_part
from ai_proxy_service.translation.remembered import (
    SENTINEL,
    Remembered,
    decode_remembered,
    from_extra_content,
)
from ai_proxy_service.translation.tools import CUSTOM_INPUT, ToolNames

Json = dict[str, Any]

INSTRUCTING_ROLES = frozenset({"system", "developer"})
# `model` is Gemini's own word, which Google's examples use here.
ANSWERING_ROLES = frozenset({"assistant", "model"})
_ROLES = "'system', 'developer', 'user', 'assistant', 'tool' and 'function'"
_EARLIER = "(earlier messages are left out)"
_REFERENCES = ('"$ref"', '"$defs"')


@dataclass(slots=True)
class Conversation:
    """Contents as far as they have come.

    Attributes:
        contents: turns, runs of one side joined.
        instructions: parts of the system instruction.
        signed: some part carries a thought signature.
    """

    names: ToolNames
    traits: ModelTraits
    attachments: Attachments
    known: Mapping[str, bytes]
    contents: list[Json] = field(default_factory=list)
    instructions: list[Json] = field(default_factory=list)
    signed: bool = False
    # The calls that wait for their results, and the results so far, by id.
    _calls: list[tuple[str | None, str]] = field(default_factory=list)
    _results: dict[str, list[Json]] = field(default_factory=dict)

    def add(self, message: Message, where: str) -> None:
        """Take the next message.

        Raises:
            InvalidRequestError: it does not fit, or has something that can't be translated.
        """
        if message.role in {"tool", "function"}:
            self._add_result(message, where)
            return
        self.finish_step()
        if message.role in INSTRUCTING_ROLES:
            self.instructions += self._parts(message, where)
        elif message.role == "user":
            self._append("user", self._parts(message, where))
        elif message.role in ANSWERING_ROLES:
            self._add_answer(message, where)
        else:
            raise InvalidRequestError(
                f"Invalid value: '{message.role[:64]}'. Supported values are: {_ROLES}.",
                field=f"{where}.role",
            )

    def finish_step(self) -> None:
        """Close a step of calls, once something else follows.

        Raises:
            InvalidRequestError: a call has no result.
        """
        if not self._calls:
            return
        results: list[Json] = []
        missing: list[str] = []
        for call_id, name in self._calls:
            given = self._results.get(call_id or name)
            if given:
                results.append(given.pop(0))
            else:
                missing.append(call_id or name)
        if missing:
            raise InvalidRequestError(
                "An assistant message with 'tool_calls' must be followed by tool messages "
                "responding to each 'tool_call_id'. The following tool_call_ids did not have "
                f"response messages: {', '.join(missing)[:500]}",
                field="messages",
            )
        self._calls, self._results = [], {}
        # Never joined with what the user says: that would begin a new turn.
        self.contents.append({"role": "user", "parts": results})

    def _append(self, role: str, parts: list[Json]) -> None:
        if not parts:
            return
        last = self.contents[-1] if self.contents else None
        if last is not None and last["role"] == role and "functionResponse" not in last["parts"][0]:
            last["parts"] += parts
        else:
            self.contents.append({"role": role, "parts": parts})

    def _parts(self, message: Message, where: str) -> list[Json]:
        """Return what a message says; empty texts are left out, as Gemini refuses them."""
        content = message.content
        if content is None or isinstance(content, str):
            text = content or message.refusal
            return [{"text": text}] if text else []
        parts = (
            gemini_part(part, f"{where}.content[{index}]", self.attachments, self.traits)
            for index, part in enumerate(content)
        )
        return [part for part in parts if part is not None]

    def _add_answer(self, message: Message, where: str) -> None:
        parts = self._parts(message, where)
        calls = message.tool_calls or []
        if not calls and message.function_call is None:
            self._sign_text(parts, from_extra_content(message.extra_content))
            self._append("model", parts)
            return
        if message.function_call is not None and not calls:
            parts.append({"functionCall": self._legacy_call(message.function_call, where)})
            self._calls = [(None, message.function_call.name)]
        for index, call in enumerate(calls):
            parts += self._call_parts(call, f"{where}.tool_calls[{index}]")
        if calls:
            self._calls = [(call.id, _call_name(call)) for call in calls]
        self._append("model", parts)

    def finish(self) -> None:
        """Close the conversation.

        Raises:
            InvalidRequestError: a call has no result.
        """
        self.finish_step()
        first = self.contents[0] if self.contents else None
        if first is not None and any("functionCall" in part for part in first["parts"]):
            # A call has to follow somebody, also where the client has cut off who that was.
            self.contents.insert(0, {"role": "user", "parts": [{"text": _EARLIER}]})
        if self.traits.is_third:
            for content in self.contents:
                self._sign_step(content["parts"])

    def _sign_step(self, parts: list[Json]) -> None:
        """Put Google's placeholder on a step's first call, if its signature is lost."""
        first = next((part for part in parts if "functionCall" in part), None)
        if first is not None and "thoughtSignature" not in first:
            first["thoughtSignature"] = SENTINEL

    def _sign_text(self, parts: list[Json], remembered: Remembered) -> None:
        if parts and remembered.signature is not None:
            parts[-1]["thoughtSignature"] = remembered.signature
            self.signed = True

    def _call_parts(self, call: ToolCall, where: str) -> list[Json]:
        """Return a call with what has to stand before it."""
        remembered = from_extra_content(call.extra_content)
        if not remembered:
            remembered = decode_remembered(self.known.get(call.id))
        arguments = _arguments(call, where)
        name = self.names.to_gemini(_call_name(call))
        part: Json = {"functionCall": {"id": call.id, "name": name, "args": arguments}}
        if remembered.signature is not None:
            part["thoughtSignature"] = remembered.signature
            self.signed = True
        return [*(remembered.before or ()), part]

    def _legacy_call(self, call: FunctionCall, where: str) -> Json:
        arguments = _decoded(call.arguments, f"{where}.function_call.arguments")
        return {"name": self.names.to_gemini(call.name), "args": arguments}

    def _add_result(self, message: Message, where: str) -> None:
        legacy = message.role == "function"
        key = message.name if legacy else message.tool_call_id
        field_name = f"{where}.{'name' if legacy else 'tool_call_id'}"
        if not key:
            raise missing_parameter(field_name)
        names = [name for call_id, name in self._calls if (call_id or name) == key]
        results = self._results.setdefault(key, [])
        if len(results) >= len(names):
            raise InvalidRequestError(
                f"Invalid '{field_name}': the assistant message before it has no tool call "
                f"'{key[:128]}' that still waits for its result.",
                field=field_name,
            )
        answer: Json = {"name": self.names.to_gemini(names[len(results)])}
        if not legacy:
            answer = {"id": key, **answer}
        texts, files = self._result_content(message, where)
        answer["response"] = _result(texts)
        if files:
            answer["parts"] = files
        results.append({"functionResponse": answer})

    def _result_content(self, message: Message, where: str) -> tuple[str, list[Json]]:
        """Return a result's text, joined, and the files in it."""
        parts = self._parts(message, where)
        # A resolution of its own is only for what stands in a message.
        files = [
            {name: value for name, value in part.items() if name != "mediaResolution"}
            for part in parts
            if "text" not in part
        ]
        if files and not self.traits.is_third:
            raise InvalidRequestError(
                "The model takes only text as the result of a tool.", field=f"{where}.content"
            )
        return "".join(part["text"] for part in parts if "text" in part), files


def _call_name(call: ToolCall) -> str:
    if call.function is not None:
        return call.function.name
    return call.custom.name if call.custom is not None else ""


def _arguments(call: ToolCall, where: str) -> Json:
    if call.function is not None:
        return _decoded(call.function.arguments, f"{where}.function.arguments")
    if call.custom is not None:
        return {CUSTOM_INPUT: call.custom.input or ""}
    raise missing_parameter(f"{where}.function")


def _decoded(arguments: str | Json | None, where: str) -> Json:
    if isinstance(arguments, dict):
        return arguments
    if arguments is None or not arguments.strip():
        return {}
    try:
        decoded: Json | None = msgspec.json.decode(arguments, type=dict[str, Any] | None)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise InvalidRequestError(
            f"Invalid '{where}': expected a JSON object in a string.", field=where
        ) from None
    return decoded or {}


def _result(text: str) -> Json:
    """Return a function's result: a JSON object as it is, anything else under `output`."""
    # Gemini 3 takes references in a result for references into it, and refuses them.
    if text.lstrip().startswith("{") and not any(word in text for word in _REFERENCES):
        try:
            decoded: Json = msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return {"output": text}
        return decoded
    return {"output": text}


def with_placeholders(contents: Sequence[Json]) -> list[Json]:
    """Return contents without any signature but Google's placeholder, where one has to be.

    Calls of Google's own tools are left out: they count only with the signature that they had.
    """
    replaced: list[Json] = []
    for content in contents:
        parts = [
            {name: value for name, value in part.items() if name != "thoughtSignature"}
            for part in content["parts"]
            if not {"toolCall", "toolResponse"} & part.keys()
        ]
        first = next((part for part in parts if "functionCall" in part), None)
        if first is not None:
            first["thoughtSignature"] = SENTINEL
        if parts:
            replaced.append({**content, "parts": parts})
    return replaced


def lost_call_ids(messages: Sequence[Message]) -> list[str]:
    """Return the ids of calls for which a client sent nothing back, to be looked up."""
    return [
        call.id
        for message in messages
        if message.tool_calls
        and not any(from_extra_content(call.extra_content) for call in message.tool_calls)
        for call in message.tool_calls
    ]
