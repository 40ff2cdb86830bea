"""Tools of an OpenAI request as Gemini's declarations, and the names in between.

https://ai.google.dev/gemini-api/docs/function-calling: a name begins with a letter or an
underscore there, while OpenAI's may begin with a digit or a hyphen.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ai_proxy_service.core.errors import InvalidRequestError, missing_parameter
from ai_proxy_service.translation.openai_types import ChatRequest, CustomSpec, FunctionSpec, Tool

ToolKind = Literal["function", "custom", "legacy"]

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_FIRST = re.compile(r"[A-Za-z_]")
# The one argument of a function that stands for a custom tool.
CUSTOM_INPUT = "input"
_CUSTOM_SCHEMA = {
    "type": "object",
    "properties": {CUSTOM_INPUT: {"type": "string"}},
    "required": [CUSTOM_INPUT],
}
# Tools of the Responses API that some clients send here.
_WEB_SEARCH = frozenset({"web_search", "web_search_preview"})


@dataclass(slots=True)
class ToolNames:
    """How functions are called on either side; the same name on both, but for a few.

    Attributes:
        custom: names, as the client knows them, of tools that take free text.
    """

    custom: set[str] = field(default_factory=set)
    _to_client: dict[str, str] = field(default_factory=dict)
    _to_gemini: dict[str, str] = field(default_factory=dict)

    def add(self, name: str) -> str:
        """Take up a declared function and return its name for Gemini."""
        renamed = _with_letter(name)
        while renamed in self._to_client:
            renamed = f"_{renamed}"
        self._to_client[renamed] = name
        self._to_gemini[name] = renamed
        return renamed

    def to_gemini(self, name: str) -> str:
        """Return a function's name for Gemini, also of one that is no longer declared."""
        return self._to_gemini.get(name) or _with_letter(name)

    def to_client(self, name: str) -> str:
        """Return a function's name as the client knows it."""
        return self._to_client.get(name, name)

    def __contains__(self, name: str) -> bool:
        return name in self._to_gemini


def _with_letter(name: str) -> str:
    return name if _FIRST.match(name) else f"_{name}"


@dataclass(slots=True)
class Toolbox:
    """What the model may use.

    Attributes:
        names: the functions' names.
        declarations: the functions, in Gemini's form.
        legacy: they were given as `functions`, and calls are to be told in the old form.
        searches: a tool that searches the web is among the tools.
    """

    names: ToolNames = field(default_factory=ToolNames)
    declarations: list[dict[str, Any]] = field(default_factory=list)
    legacy: bool = False
    searches: bool = False


def read_tools(chat: ChatRequest) -> Toolbox:
    """Read the tools of a request.

    Raises:
        InvalidRequestError: an unknown kind, a wrong or repeated name, or both forms at once.
    """
    box = Toolbox(searches=chat.web_search_options is not None)
    if chat.tools and (chat.functions or chat.function_call is not None):
        raise InvalidRequestError(
            "'functions' and 'function_call' can't be used together with 'tools'.",
            field="functions",
        )
    for index, tool in enumerate(chat.tools or ()):
        _add_tool(box, tool, f"tools[{index}]")
    for index, function in enumerate(chat.functions or ()):
        box.legacy = True
        _declare(box, function, f"functions[{index}].name")
    return box


def _add_tool(box: Toolbox, tool: Tool, where: str) -> None:
    if tool.type in _WEB_SEARCH:
        box.searches = True
        return
    if tool.type == "function":
        function, at = tool.function, f"{where}.function.name"
        if function is None and tool.name is not None:
            at = f"{where}.name"
            function = FunctionSpec(tool.name, tool.description, tool.parameters, tool.strict)
        if function is None:
            raise missing_parameter(f"{where}.function")
        _declare(box, function, at)
    elif tool.type == "custom":
        custom = tool.custom
        if custom is None and tool.name is not None:
            custom = CustomSpec(tool.name, tool.description)
        if custom is None:
            raise missing_parameter(f"{where}.custom")
        spec = FunctionSpec(custom.name, custom.description, _CUSTOM_SCHEMA)
        _declare(box, spec, f"{where}.custom.name")
        box.names.custom.add(custom.name)
    else:
        raise InvalidRequestError(
            f"Invalid value: '{tool.type[:64]}'. Supported values are: 'function' and 'custom'.",
            field=f"{where}.type",
        )


def _declare(box: Toolbox, function: FunctionSpec, where: str) -> None:
    if not _NAME.fullmatch(function.name):
        raise InvalidRequestError(
            f"Invalid '{where}': expected 1 to 128 letters, digits, '_', '-', '.' and ':'.",
            field=where,
        )
    if function.name in box.names:
        raise InvalidRequestError(
            f"Invalid '{where}': there are two functions of this name.", field=where
        )
    declaration: dict[str, Any] = {"name": box.names.add(function.name)}
    if function.description:
        declaration["description"] = function.description
    schema = without_dialect(function.parameters)
    if schema:
        declaration["parametersJsonSchema"] = schema
    box.declarations.append(declaration)


def without_dialect(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a JSON schema without `$schema`, which Gemini refuses."""
    return {name: value for name, value in (schema or {}).items() if name != "$schema"}


def choose_tools(chat: ChatRequest, box: Toolbox) -> dict[str, Any] | None:
    """Return Gemini's `functionCallingConfig` for the client's choice; None leaves it alone.

    May leave out declarations, where only some are allowed.

    Raises:
        InvalidRequestError: an unknown choice, or a tool that is not declared.
    """
    where = "function_call" if box.legacy else "tool_choice"
    choice = chat.function_call if box.legacy else chat.tool_choice
    if choice is None:
        return None
    if isinstance(choice, str):
        return _mode(choice, where, box)
    if not box.legacy and choice.get("type") == "allowed_tools":
        return _allowed(choice, box)
    name = choice.get("name") if box.legacy else _named(choice)
    if not isinstance(name, str):
        raise InvalidRequestError(f"Invalid value for '{where}'.", field=where)
    return _only([name], where, box)


def _mode(choice: str, where: str, box: Toolbox) -> dict[str, Any] | None:
    modes = {"none": "NONE", "auto": "AUTO", "required": "ANY"}
    if choice not in modes:
        raise InvalidRequestError(
            f"Invalid value: '{choice[:64]}'. Supported values are: 'none', 'auto' and 'required'.",
            field=where,
        )
    if not box.declarations:
        if choice == "required":
            raise InvalidRequestError(
                f"'{where}' is 'required', but there are no tools.", field=where
            )
        return None
    return {"mode": modes[choice]}


def _named(choice: Mapping[str, Any]) -> Any:
    kind = choice.get("type")
    if kind not in ("function", "custom"):  # not a set: what clients send may not be hashable
        return None
    nested = choice.get(kind)
    return nested.get("name") if isinstance(nested, dict) else choice.get("name")


def _allowed(choice: Mapping[str, Any], box: Toolbox) -> dict[str, Any]:
    nested = choice.get("allowed_tools")
    options: Mapping[str, Any] = nested if isinstance(nested, dict) else choice
    tools = options.get("tools")
    listed = tools if isinstance(tools, list) else []
    names = [_named(tool) if isinstance(tool, dict) else None for tool in listed]
    known = [name for name in names if isinstance(name, str)]
    if not known or len(known) != len(names):
        raise InvalidRequestError("Invalid value for 'tool_choice'.", field="tool_choice")
    config = _only(known, "tool_choice", box)
    if options.get("mode") == "required":
        return config
    wanted = set(config["allowedFunctionNames"])
    box.declarations = [item for item in box.declarations if item["name"] in wanted]
    return {"mode": "AUTO"}


def _only(names: Iterable[str], where: str, box: Toolbox) -> dict[str, Any]:
    renamed: list[str] = []
    for name in names:
        if name not in box.names:
            raise InvalidRequestError(
                f"Invalid '{where}': there is no tool named '{name[:128]}'.", field=where
            )
        renamed.append(box.names.to_gemini(name))
    return {"mode": "ANY", "allowedFunctionNames": renamed}
