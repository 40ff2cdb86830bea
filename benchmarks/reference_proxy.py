"""What is compared with: the shortest OpenAI-to-Gemini proxy that FastAPI and httpx allow.

It checks no key, limits, logs, counts and charges nothing. The upstream's URL is its argument:
`python -m benchmarks.reference_proxy http://127.0.0.1:1234`.
"""

import json
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel


class Message(BaseModel):
    """One message."""

    role: str
    content: str


class ChatRequest(BaseModel):
    """The fields that it knows."""

    model: str
    messages: list[Message]
    stream: bool = False


def _text(answer: Any) -> str:
    return "".join(part["text"] for part in answer["candidates"][0]["content"]["parts"])


def _usage(answer: Any) -> dict[str, int]:
    counts = answer["usageMetadata"]
    return {
        "prompt_tokens": counts["promptTokenCount"],
        "completion_tokens": counts["candidatesTokenCount"],
        "total_tokens": counts["totalTokenCount"],
    }


def _begin(chat: ChatRequest, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(14)}",
        "object": kind,
        "created": int(time.time()),
        "model": chat.model,
    }


def _body(chat: ChatRequest) -> dict[str, Any]:
    contents = [
        {"role": "model" if message.role == "assistant" else "user", "parts": [{"text": said}]}
        for message in chat.messages
        if (said := message.content)
    ]
    return {"contents": contents}


async def _events(client: httpx.AsyncClient, chat: ChatRequest) -> AsyncIterator[str]:
    base = _begin(chat, "chat.completion.chunk")
    delta: dict[str, Any] = {"role": "assistant"}
    url = f"/v1beta/models/{chat.model}:streamGenerateContent?alt=sse"
    answer: Any = None
    async with client.stream("POST", url, json=_body(chat)) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            answer = json.loads(line[6:])
            choice = {"index": 0, "delta": {**delta, "content": _text(answer)}}
            delta = {}
            yield f"data: {json.dumps({**base, 'choices': [choice]})}\n\n"
    ending = {"index": 0, "delta": {}, "finish_reason": "stop"}
    yield f"data: {json.dumps({**base, 'choices': [ending]})}\n\n"
    yield f"data: {json.dumps({**base, 'choices': [], 'usage': _usage(answer)})}\n\n"
    yield "data: [DONE]\n\n"


def make_app(upstream: str) -> FastAPI:
    """Make the app."""
    # httpx's own default of 100 connections would make the other streams wait.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    client = httpx.AsyncClient(base_url=upstream, limits=limits, timeout=60)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await client.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/chat/completions", response_model=None)
    async def create(chat: ChatRequest) -> Response:
        if chat.stream:
            return StreamingResponse(_events(client, chat), media_type="text/event-stream")
        url = f"/v1beta/models/{chat.model}:generateContent"
        response = await client.post(url, json=_body(chat))
        response.raise_for_status()
        answer = response.json()
        message = {"role": "assistant", "content": _text(answer)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = {**_begin(chat, "chat.completion"), "choices": [choice], "usage": _usage(answer)}
        return JSONResponse(whole)

    return app


def main() -> None:
    """Serve it with the options that the project's own services have."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(json.dumps({"event": "listening", "url": url}), flush=True)
    config = uvicorn.Config(
        make_app(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_config=None
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
