"""Bodies that the proxy serves, with nearly every field that it reads, for fuzzing from there."""

from typing import Any

PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwAD"
FLASH_25 = "gemini-2.5-flash"
FLASH_3 = "gemini-3-flash-preview"
ASKED = {"role": "user", "content": "Hi"}
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer", "enum": [1, 2]}, "b": {"$ref": "#/$defs/x"}},
    "required": ["a"],
    "$defs": {"x": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
}

PLAIN: dict[str, Any] = {
    "model": FLASH_25,
    "messages": [ASKED],
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 3,
    "n": 2,
    "stop": ["a", "b"],
    "seed": 7,
    "frequency_penalty": 0,
    "presence_penalty": 0.1,
    "max_tokens": 5,
    "max_completion_tokens": 6,
    "logit_bias": {},
    "service_tier": "auto",
    "reasoning_effort": "low",
    "parallel_tool_calls": True,
    "metadata": {"a": "b"},
}
WITH_PARTS: dict[str, Any] = {
    "model": FLASH_3,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {
            "role": "user",
            "name": "n",
            "content": [
                {"type": "text", "text": "See"},
                {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                {"type": "file", "file": {"file_data": "AAAA", "filename": "a.pdf"}},
            ],
        },
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "refusal": None},
        ASKED,
    ],
}
WITH_CALLS: dict[str, Any] = {
    "model": FLASH_3,
    "messages": [
        ASKED,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"a":1}'},
                    "extra_content": {
                        "google": {
                            "thought_signature": "c2ln",
                            "preceding_parts": [{"toolCall": {}}],
                        }
                    },
                },
                {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "i"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": '{"r":1}'},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "t"}]},
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True},
        },
        {"type": "custom", "custom": {"name": "g", "format": {"type": "text"}}},
        {"type": "function", "name": "h", "parameters": {}},
    ],
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "auto",
            "tools": [{"type": "function", "function": {"name": "f"}}],
        },
    },
}
LEGACY: dict[str, Any] = {
    "model": FLASH_25,
    "messages": [
        ASKED,
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
    ],
    "functions": [{"name": "f", "parameters": SCHEMA}],
    "function_call": "auto",
}
# Without a schema: the simulator makes answers up from it, and stumbles over ones that Gemini
# refuses.
AS_JSON: dict[str, Any] = {
    "model": FLASH_25,
    "messages": [ASKED],
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True}},
    "modalities": ["text"],
    "web_search_options": {"search_context_size": "low"},
    "reasoning": {"effort": "low", "max_tokens": 5, "exclude": False, "enabled": True},
}
WITH_GOOGLE_OPTIONS: dict[str, Any] = {
    "model": FLASH_3,
    "messages": [ASKED],
    "extra_body": {
        "google": {
            "thinking_config": {"thinking_level": "low", "include_thoughts": True},
            "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}],
            "tools": [{"google_search": {}}, {"codeExecution": {}}],
            "media_resolution": "LOW",
            "top_k": 4,
        }
    },
}
FROM_CURSOR: dict[str, Any] = {
    "model": FLASH_25,
    "instructions": "Be brief.",
    "input": [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Hi"},
                {"type": "input_image", "image_url": PNG, "detail": "low"},
                {"type": "input_file", "file_data": "AAAA", "filename": "a.pdf"},
            ],
        },
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "o"},
        {"type": "reasoning", "id": "r"},
        {"role": "user", "content": "And now?"},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
    "tool_choice": {"type": "function", "name": "f"},
    "max_output_tokens": 9,
}
CHATS = (PLAIN, WITH_PARTS, WITH_CALLS, LEGACY, AS_JSON, WITH_GOOGLE_OPTIONS, FROM_CURSOR)
COMPLETIONS: tuple[dict[str, Any], ...] = (
    {
        "model": FLASH_25,
        "prompt": ["a", "b"],
        "max_tokens": 4,
        "temperature": 1,
        "n": 1,
        "best_of": 1,
        "stop": "x",
        "echo": False,
        "suffix": "",
        "logit_bias": {},
        "google": {"top_k": 3},
    },
    {
        "model": FLASH_25,
        "prompt": "a",
        "stream": True,
        "stream_options": {"include_usage": True},
        "extra_body": {"google": {}},
    },
)
EMBEDDINGS: tuple[dict[str, Any], ...] = (
    {
        "model": "gemini-embedding-001",
        "input": ["a", "b"],
        "encoding_format": "base64",
        "dimensions": 256,
        "google": {"task_type": "CLUSTERING"},
    },
    {
        "model": "gemini-embedding-001",
        "input": "a",
        "extra_body": {"google": {"taskType": "clustering"}},
    },
)
