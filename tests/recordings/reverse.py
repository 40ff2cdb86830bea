"""The OpenAI chat request of which a recorded Gemini request would be the translation."""

import copy
import itertools
import json
import re
from collections import deque
from collections.abc import Mapping
from typing import Any

from recordings.corpus import Recording
from recordings.normal_form import (
    as_list,
    camel,
    normal_calling,
    normal_config,
    normal_function,
    normal_part,
    normal_safety,
    normal_schema,
    normal_tools,
)

Json = dict[str, Any]

OWN_TOOLS = {
    "googleSearch": "google_search",
    "codeExecution": "code_execution",
    "urlContext": "url_context",
}
PARAMETERS = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "seed": "seed",
    "maxOutputTokens": "max_completion_tokens",
    "stopSequences": "stop",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
}
# Members of the configuration that are looked at one by one.
OTHERS = {"schema", "responseMimeType", "responseModalities", "thinkingConfig"}
FILES_API = "https://generativelanguage.googleapis.com/"
SPOKEN_PARTS = {"text", "thoughtSignature", "functionCall"}


class NotExpressibleError(Exception):
    """OpenAI's form, with Google's documented options, has no word for something in a request."""


def with_ids(request: Mapping[str, Any]) -> Json:
    """Return a request in which each call and its result have an id, as OpenAI's form demands."""
    completed: Json = copy.deepcopy(dict(request))
    numbers = itertools.count()
    waiting: deque[tuple[str, str]] = deque()
    for content in as_list(completed["contents"]):
        content["parts"] = as_list(content["parts"])
        for place, given in enumerate(content["parts"]):
            part = content["parts"][place] = camel(given)
            if "functionCall" in part:
                call = part["functionCall"] = camel(part["functionCall"])
                call.setdefault("id", f"call_{next(numbers)}")
                waiting.append((call["name"], call["id"]))
            elif "functionResponse" in part:
                response = part["functionResponse"] = camel(part["functionResponse"])
                name, call_id = waiting.popleft()
                assert name == response["name"]
                response.setdefault("id", call_id)
    return completed


def to_openai(recording: Recording) -> Json:
    """Return the OpenAI form of a recorded request.

    Raises:
        NotExpressibleError: there is none.
    """
    given = camel(with_ids(recording.data["request"]))
    chat: Json = {"model": recording.model, "user": f"request-{recording.key}"}
    if recording.is_stream:
        chat["stream"] = True
    chat["messages"] = [*_system(given), *_messages(given["contents"])]
    google: Json = {}
    _add_config(chat, google, normal_config(given.get("generationConfig")))
    _add_tools(chat, google, given)
    safety = normal_safety(given.get("safetySettings"))
    if safety:
        google["safety_settings"] = [
            {"category": f"HARM_CATEGORY_{category}", "threshold": threshold}
            for category, threshold in safety.items()
        ]
    if "cachedContent" in given:
        google["cached_content"] = given["cachedContent"]
    return chat | ({"google": google} if google else {})


def _system(given: Json) -> list[Json]:
    parts = as_list(camel(given.get("systemInstruction")).get("parts"))
    texts = [{"type": "text", "text": part["text"]} for part in parts]
    return [{"role": "system", "content": texts}] if texts else []


def _messages(contents: Any) -> list[Json]:
    messages: list[Json] = []
    for content in as_list(contents):
        parts = [part for part in map(normal_part, content["parts"]) if part]
        if content.get("role") == "model":
            messages.append(_answer(parts))
            continue
        messages += [
            _result(part["functionResponse"]) for part in parts if "functionResponse" in part
        ]
        said = [_spoken(part) for part in parts if "functionResponse" not in part]
        if len(said) == 1 and said[0]["type"] == "text":
            messages.append({"role": "user", "content": said[0]["text"]})
        elif said:
            messages.append({"role": "user", "content": said})
    return messages


def _answer(parts: list[Json]) -> Json:
    """Return what the model said as one message: text, then calls."""
    message: Json = {"role": "assistant"}
    calls: list[Json] = []
    for part in parts:
        if not set(part) <= SPOKEN_PARTS:
            raise NotExpressibleError(f"{_kind(part)} in the history")
        extra = {"google": {"thought_signature": part.get("thoughtSignature")}}
        signed = {"extra_content": extra} if "thoughtSignature" in part else {}
        if "functionCall" in part:
            call = part["functionCall"]
            function = {"name": call["name"], "arguments": json.dumps(call.get("args", {}))}
            calls.append({"id": call["id"], "type": "function", "function": function, **signed})
            continue
        message["content"] = message.get("content", "") + part.get("text", "")
        message |= signed
    return message | ({"tool_calls": calls} if calls else {})


def _result(response: Json) -> Json:
    content: Any = json.dumps(response["response"])
    if "parts" in response:
        content = [{"type": "text", "text": content}, *map(_spoken, response["parts"])]
    return {"role": "tool", "tool_call_id": response["id"], "content": content}


def _spoken(part: Json) -> Json:
    """Return one part of what a user said."""
    if set(part) == {"text"}:
        return {"type": "text", "text": part["text"]}
    if set(part) == {"inlineData"}:
        return _blob(part["inlineData"]["mimeType"], part["inlineData"]["data"])
    if set(part) == {"fileData"}:
        uri, mime_type = part["fileData"]["fileUri"], part["fileData"]["mimeType"]
        if not uri.startswith(FILES_API):
            raise NotExpressibleError("a file on the web that Gemini gets for itself")
        # The name tells the type of the file.
        name = f"file.{mime_type.rpartition('/')[2]}"
        return {"type": "file", "file": {"file_id": uri, "filename": name}}
    raise NotExpressibleError(f"{_kind(part)} in a message")


def _kind(part: Json) -> str:
    return min(set(part) - SPOKEN_PARTS)


def _blob(mime_type: str, data: str) -> Json:
    url = f"data:{mime_type};base64,{data}"
    kind = mime_type.partition("/")[0]
    if mime_type in {"audio/wav", "audio/mp3"}:
        sound = {"data": data, "format": mime_type.rpartition("/")[2]}
        return {"type": "input_audio", "input_audio": sound}
    if kind in {"image", "video"}:
        return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}
    return {"type": "file", "file": {"file_data": url}}


def _add_config(chat: Json, google: Json, config: Json) -> None:
    unknown = set(config) - set(PARAMETERS) - OTHERS
    if unknown:
        raise NotExpressibleError(min(unknown))
    chat |= {PARAMETERS[name]: config[name] for name in PARAMETERS if name in config}
    if "schema" in config:
        schema = {"name": "answer", "schema": config["schema"]}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif config.get("responseMimeType") == "application/json":
        chat["response_format"] = {"type": "json_object"}
    if "responseModalities" in config:
        chat["modalities"] = [name.lower() for name in config["responseModalities"]]
    if "thinkingConfig" in config:
        google["thinking_config"] = {
            re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name): value
            for name, value in config["thinkingConfig"].items()
        }


def _add_tools(chat: Json, google: Json, given: Json) -> None:
    functions, own = normal_tools(given.get("tools"))
    if functions:
        chat["tools"] = [
            {"type": "function", "function": _function(declaration)}
            for tool in as_list(given["tools"])
            for declaration in as_list(camel(tool).get("functionDeclarations"))
        ]
    for tool in own:
        [name] = tool
        if name not in OWN_TOOLS:
            raise NotExpressibleError(f"the tool {name}")
        google.setdefault("tools", []).append({OWN_TOOLS[name]: tool[name]})
    calling = normal_calling(given.get("toolConfig"), mixed=bool(functions and own))
    mode, names = calling.get("mode"), calling.get("names")
    if camel(camel(given.get("toolConfig")).get("functionCallingConfig")).get(
        "streamFunctionCallArguments"
    ):
        raise NotExpressibleError("streamFunctionCallArguments")
    if mode == "NONE":
        chat["tool_choice"] = "none"
    elif mode == "ANY" and functions:
        chat["tool_choice"] = _choice(names)
    elif mode is not None:
        raise NotExpressibleError(
            f"the calling mode {mode}" + ("" if functions else " without functions")
        )


def _function(declaration: Json) -> Json:
    function = normal_function(declaration)
    schema = camel(declaration).get("parametersJsonSchema") or camel(declaration).get("parameters")
    parameters = {"parameters": normal_schema(schema)} if schema else {}
    function.pop("schema", None)
    return function | parameters


def _choice(names: list[str] | None) -> Any:
    if names is None:
        return "required"
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    if len(tools) == 1:
        return tools[0]
    return {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": tools}}
