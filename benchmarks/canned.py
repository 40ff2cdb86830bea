"""What the fake Gemini says, and what an answer made of it must cost."""

import json
from typing import Any

MODEL = "gemini-2.5-flash"
# The list price of the model, in nano-USD for a token.
INPUT_NANOS, OUTPUT_NANOS = 300, 2_500
PROMPT_TOKENS = 12
TOKENS_PER_CHUNK = 4

# Whole answers and back-to-back streams say the same: the proxy may fetch either for a client
# that wants it whole.
CHUNKS = 64
PACED_CHUNKS = 20
PACE_SECONDS = 0.1
FIRST_CHUNK_SECONDS = 0.05
# A request whose text has this in it gets the paced stream.
PACED_MARK = "paced, please"


def words(chunks: int) -> list[str]:
    """Return the text of each chunk."""
    return [f"piece {number} of it; " for number in range(chunks)]


def text(chunks: int) -> str:
    """Return the whole text."""
    return "".join(words(chunks))


def charge_nanos(chunks: int) -> int:
    """Return what an answer of so many chunks costs."""
    return PROMPT_TOKENS * INPUT_NANOS + chunks * TOKENS_PER_CHUNK * OUTPUT_NANOS


def answer(said: str, output_tokens: int, finish: str | None) -> bytes:
    """Return a Gemini answer, or one chunk of a stream, with the usage so far."""
    candidate: dict[str, Any] = {
        "content": {"parts": [{"text": said}], "role": "model"},
        "index": 0,
    }
    if finish:
        candidate["finishReason"] = finish
    body = {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": PROMPT_TOKENS,
            "candidatesTokenCount": output_tokens,
            "totalTokenCount": PROMPT_TOKENS + output_tokens,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": PROMPT_TOKENS}],
        },
        "modelVersion": MODEL,
        "responseId": "f5Zmabench0000000000000",
    }
    return json.dumps(body, separators=(",", ":")).encode()


def events(chunks: int) -> list[bytes]:
    """Return the events of a stream as Gemini writes them: one line each, ended by CRLF."""
    return [
        b"data: %s\r\n\r\n"
        % answer(said, number * TOKENS_PER_CHUNK, "STOP" if number == chunks else None)
        for number, said in enumerate(words(chunks), start=1)
    ]


def gemini_request(*, paced: bool = False) -> bytes:
    """Return a request in Gemini's form."""
    said = PACED_MARK if paced else "Say it in pieces."
    return json.dumps({"contents": [{"role": "user", "parts": [{"text": said}]}]}).encode()


def chat_request(*, stream: bool, paced: bool = False) -> bytes:
    """Return a request in OpenAI's form."""
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": PACED_MARK if paced else "Say it in pieces."}],
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body).encode()
