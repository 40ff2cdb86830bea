"""A client that takes nothing for granted: raw requests, raw bytes, events cut by hand."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

KEY = "test-key"
FLASH_25 = "gemini-2.5-flash"
FLASH_3 = "gemini-3.8-flash"


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}


def function(name: str = "get_weather", **schema: Any) -> dict[str, Any]:
    parameters = schema or {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
        "required": ["city"],
    }
    return {"name": name, "description": "for a test", "parametersJsonSchema": parameters}


def events(raw: bytes) -> list[Any]:
    """Cut a stream into events exactly as it is recorded: one data line, CRLF CRLF."""
    pieces = raw.split(b"\r\n\r\n")
    assert pieces.pop() == b""
    assert all(piece.startswith(b"data: ") and b"\n" not in piece for piece in pieces)
    return [json.loads(piece.removeprefix(b"data: ")) for piece in pieces]


def parts(chunk: dict[str, Any], index: int = 0) -> list[dict[str, Any]]:
    found = [c for c in chunk["candidates"] if c.get("index", 0) == index]
    return [part for c in found for part in c.get("content", {}).get("parts", [])]


def text_of(chunks: list[dict[str, Any]], index: int = 0) -> str:
    return "".join(
        part.get("text", "")
        for chunk in chunks
        for part in parts(chunk, index)
        if not part.get("thought")
    )


class WireClient:
    def __init__(self, url: str, key: str | None = KEY) -> None:
        self.url = url
        headers = {} if key is None else {"x-goog-api-key": key}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=30)

    def post(
        self, method: str, request: Any, model: str = FLASH_25, version: str = "v1beta"
    ) -> httpx.Response:
        return self.http.post(f"/{version}/models/{model}:{method}", json=request)

    def generate(self, request: Any, model: str = FLASH_25) -> dict[str, Any]:
        response = self.post("generateContent", request, model)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def stream(self, request: Any, model: str = FLASH_25) -> list[Any]:
        response = self.post("streamGenerateContent?alt=sse", request, model)
        assert response.status_code == 200, response.text
        return events(response.content)

    @contextmanager
    def open_stream(self, request: Any, model: str = FLASH_25) -> Iterator[httpx.Response]:
        path = f"/v1beta/models/{model}:streamGenerateContent?alt=sse"
        with self.http.stream("POST", path, json=request) as response:
            yield response

    def error(self, request: Any, model: str = FLASH_25) -> dict[str, Any]:
        response = self.post("generateContent", request, model)
        error: dict[str, Any] = response.json()["error"]
        assert error["code"] == response.status_code
        return error

    def control(self, method: str, path: str, **options: Any) -> Any:
        response = self.http.request(method, f"/control/{path}", **options)
        assert response.status_code == 200, response.text
        return response.json()
