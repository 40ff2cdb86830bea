"""Tools and the choice among them: declarations, names, modes, and what models can combine."""

from typing import Any

import pytest

from support.chats import (
    FLASH_2,
    FLASH_3,
    USER,
    Json,
    assert_refused,
    call,
    calls,
    chunk,
    function,
    function_call,
    message,
    refusal,
    result,
    translate,
)

F, G = function("f"), function("g")


def declared(body: Json) -> list[Json]:
    """Return the functions that Gemini is told of."""
    return [item for tool in body["tools"] for item in tool.get("functionDeclarations", ())]


def mode(**fields: Any) -> Json | None:
    """Return the choice that Gemini is told of, with f and g declared."""
    body = translate(**{"tools": [F, G], **fields}).body
    found: Json | None = body.get("toolConfig", {}).get("functionCallingConfig")
    return found


SCHEMA = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/x"}},
    "$defs": {"x": {"type": "string"}},
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("tool", "declaration"),
    [
        (F, {"name": "f"}),
        (function("f", description="d"), {"name": "f", "description": "d"}),
        (function("f", description=None, parameters=None, strict=True), {"name": "f"}),
        (function("f", parameters={}), {"name": "f"}),
        (function("f", parameters=SCHEMA), {"name": "f", "parametersJsonSchema": SCHEMA}),
        (
            function("f", parameters={"$schema": "http://json-schema.org/draft-07", **SCHEMA}),
            {"name": "f", "parametersJsonSchema": SCHEMA},
        ),
        # Flat, as the Responses API and Cursor have it.
        (
            {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA},
            {"name": "f", "description": "d", "parametersJsonSchema": SCHEMA},
        ),
        (
            {"type": "custom", "custom": {"name": "sh", "description": "run"}},
            {
                "name": "sh",
                "description": "run",
                "parametersJsonSchema": {
                    "type": "object",
                    "properties": {"input": {"type": "string"}},
                    "required": ["input"],
                },
            },
        ),
    ],
)
def test_each_tool_is_declared(tool: Json, declaration: Json) -> None:
    assert declared(translate(tools=[tool]).body) == [declaration]


def test_all_functions_stand_in_one_tool_whatever_their_form() -> None:
    flat = {"type": "custom", "name": "h"}

    body = translate(tools=[F, flat, G]).body

    (tool,) = body["tools"]
    assert [item["name"] for item in tool["functionDeclarations"]] == ["f", "h", "g"]
    assert "toolConfig" not in body


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (None, None),
        ("none", {"mode": "NONE"}),
        ("auto", {"mode": "AUTO"}),
        ("required", {"mode": "ANY"}),
        (
            {"type": "function", "function": {"name": "g"}},
            {"mode": "ANY", "allowedFunctionNames": ["g"]},
        ),
        ({"type": "function", "name": "g"}, {"mode": "ANY", "allowedFunctionNames": ["g"]}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [F]}},
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
        ),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [F, G]},
            {"mode": "ANY", "allowedFunctionNames": ["f", "g"]},
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [G]}},
            {"mode": "AUTO"},
        ),
    ],
)
def test_each_choice_has_its_mode(choice: Any, told: Json | None) -> None:
    assert mode(tool_choice=choice) == told


@pytest.mark.parametrize(("how", "names"), [("auto", ["g"]), ("required", ["f", "g"])])
def test_functions_that_are_not_allowed_are_kept_back_only_where_no_mode_can_say_so(
    how: str, names: list[str]
) -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": how, "tools": [G]}}

    body = translate(tools=[F, G], tool_choice=choice).body

    assert [item["name"] for item in declared(body)] == names


def test_a_custom_tool_can_be_chosen() -> None:
    tools = [{"type": "custom", "custom": {"name": "sh"}}]
    choice = {"type": "custom", "custom": {"name": "sh"}}

    assert mode(tools=tools, tool_choice=choice) == {"mode": "ANY", "allowedFunctionNames": ["sh"]}


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("none", {"mode": "NONE"}),
        ("auto", {"mode": "AUTO"}),
        ({"name": "f"}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_the_old_form_of_functions_is_understood(choice: Any, told: Json) -> None:
    schema = {"type": "object", "properties": {}}
    functions = [{"name": "f", "description": "d", "parameters": schema}]

    body = translate(functions=functions, function_call=choice).body

    assert declared(body) == [{"name": "f", "description": "d", "parametersJsonSchema": schema}]
    assert body["toolConfig"]["functionCallingConfig"] == told


@pytest.mark.parametrize("choice", ["none", "auto", None])
def test_a_choice_without_tools_means_nothing(choice: str | None) -> None:
    body = translate(tools=[], tool_choice=choice, parallel_tool_calls=False).body

    assert body.keys() & {"tools", "toolConfig"} == set()


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        (
            {"tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
            "invalid_value",
        ),
        ({"tool_choice": "sometimes"}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "function"}}, "tool_choice", "invalid_value"),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": []}}},
            "tool_choice",
            "invalid_value",
        ),
        (
            {"tool_choice": {"type": "allowed_tools", "tools": [function("x")]}},
            "tool_choice",
            "invalid_value",
        ),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tools": [F, {"type": "mcp"}]}, "tools[1].type", "invalid_value"),
        ({"tools": [F, F]}, "tools[1].function.name", "invalid_value"),
        ({"tools": [function("a b")]}, "tools[0].function.name", "invalid_value"),
        ({"tools": [function("")]}, "tools[0].function.name", "invalid_value"),
        ({"tools": [{"type": "custom"}]}, "tools[0].custom", "missing_required_parameter"),
        ({"tools": [{"function": {"name": "f"}}]}, "tools[0].type", "missing_required_parameter"),
        ({"functions": [{"name": "f"}]}, "functions", "invalid_value"),
        ({"function_call": "auto"}, "functions", "invalid_value"),
        (
            {"tools": None, "functions": [{"name": "f"}], "function_call": {"name": "x"}},
            "function_call",
            "invalid_value",
        ),
        (
            {"tools": None, "functions": [{"name": "f"}] * 129},
            "functions",
            "invalid_value",
        ),
    ],
)
def test_tools_that_can_not_be_meant_are_refused(fields: Json, param: str, code: str) -> None:
    assert_refused(refusal(**{"tools": [F, G], **fields}), param, code)


def test_names_that_gemini_refuses_are_changed_and_changed_back() -> None:
    names = ["2fa", "-x", "_2fa", "ok-1", "__2fa"]
    made = call("a", "2fa")
    translated = translate(
        tools=[function(name) for name in names],
        tool_choice={"type": "function", "function": {"name": "2fa"}},
        messages=[USER, calls(made), result("a")],
    )

    told = [item["name"] for item in declared(translated.body)]
    config = translated.body["toolConfig"]["functionCallingConfig"]
    parts = [part for content in translated.body["contents"] for part in content["parts"]]
    answer = message(chunk(*map(function_call, told), finish="STOP"), tools=translated.toolbox)

    assert all(name[0].isalpha() or name[0] == "_" for name in told)
    assert len(set(told)) == len(names)
    assert config["allowedFunctionNames"] == [told[0]]
    assert parts[1]["functionCall"]["name"] == told[0] == parts[2]["functionResponse"]["name"]
    assert [item["function"]["name"] for item in answer["tool_calls"]] == names


WEB: Json = {"googleSearch": {}}


@pytest.mark.parametrize(
    ("fields", "tools"),
    [
        ({"web_search_options": {}}, [WEB]),
        ({"tools": [{"type": "web_search_preview"}]}, [WEB]),
        ({"google": {"tools": [{"google_search": {}}]}, "web_search_options": {}}, [WEB]),
        (
            {"google": {"tools": [{"codeExecution": {}}, {"url_context": {}}]}},
            [{"codeExecution": {}}, {"urlContext": {}}],
        ),
    ],
)
def test_googles_own_tools_are_asked_for(fields: Json, tools: list[Json]) -> None:
    body = translate(**fields).body

    assert body["tools"] == tools
    assert "toolConfig" not in body


@pytest.mark.parametrize(("model", "shown"), [(FLASH_2, False), (FLASH_3, True)])
def test_gemini_3_shows_its_own_tools_calls_where_functions_stand_beside_them(
    model: str, *, shown: bool
) -> None:
    body = translate(model, tools=[F], tool_choice="auto", web_search_options={}).body

    assert body["tools"] == [{"functionDeclarations": [{"name": "f"}]}, WEB]
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "AUTO"}
    assert body["toolConfig"].get("includeServerSideToolInvocations", False) is shown


JSON_SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "x", "schema": {"type": "object", "required": ["a"]}},
}


@pytest.mark.parametrize("wanted", [JSON_SCHEMA, {"type": "json_object"}])
def test_models_before_gemini_3_are_asked_in_words_for_json_beside_functions(
    wanted: Json,
) -> None:
    messages = [{"role": "system", "content": "be brief"}, USER]

    body = translate(FLASH_2, messages=messages, tools=[F], response_format=wanted).body

    first, asking = body["systemInstruction"]["parts"]
    assert first == {"text": "be brief"}
    assert "JSON" in asking["text"]
    assert ('"required":["a"]' in asking["text"]) is (wanted is JSON_SCHEMA)
    assert body["generationConfig"].keys() & {"responseMimeType", "responseJsonSchema"} == set()
    assert declared(body) == [{"name": "f"}]


@pytest.mark.parametrize(("model", "tools"), [(FLASH_2, []), (FLASH_3, [F])])
def test_elsewhere_json_is_asked_for_as_such(model: str, tools: list[Json]) -> None:
    body = translate(model, tools=tools, response_format=JSON_SCHEMA).body

    assert body["generationConfig"]["responseMimeType"] == "application/json"
    assert body["generationConfig"]["responseJsonSchema"] == {"type": "object", "required": ["a"]}
    assert "systemInstruction" not in body
