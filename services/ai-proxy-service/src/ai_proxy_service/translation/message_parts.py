"""Pieces of an answer in OpenAI's form, the same in whole answers and in streams."""

import base64
import time
from typing import Any

from ai_proxy_service.core.gemini import Blob
from ai_proxy_service.translation.answer import Call

# OpenAI keeps spoken answers for an hour; here the id stands for nothing that is kept.
_AUDIO_KEPT_SECONDS = 3600
_PCM = ("audio/l16", "audio/pcm")
_PCM_RATE_HZ = 24_000
_SAMPLE_BYTES = 2


def tool_call(call: Call) -> dict[str, Any]:
    """Return a call as one of `tool_calls`."""
    told: dict[str, Any] = {"id": call.call_id, "type": call.kind}
    if call.kind == "custom":
        told["custom"] = {"name": call.name, "input": call.text}
    else:
        told["function"] = {"name": call.name, "arguments": call.text}
    if call.remembered:
        told["extra_content"] = call.remembered.extra_content()
    return told


def legacy_call(call: Call) -> dict[str, Any]:
    """Return a call as `function_call`, the form before there were tools."""
    return {"name": call.name, "arguments": call.text}


def image(blob: Blob, position: int) -> dict[str, Any]:
    """Return an image, or another file, as one of `images`."""
    return {
        "type": "image_url",
        "image_url": {"url": f"data:{blob.mime_type};base64,{blob.data}"},
        "index": position,
    }


def audio(sounds: list[Blob], completion_id: str, *, as_wav: bool) -> dict[str, Any]:
    """Return a spoken answer as `audio`.

    Args:
        sounds: what Gemini sent: pieces of one recording.
        completion_id: makes its id.
        as_wav: whether raw samples get a header that makes them a file.
    """
    data = b"".join(base64.b64decode(sound.data) for sound in sounds)
    mime_type = sounds[0].mime_type.lower()
    if mime_type.startswith(_PCM) and as_wav:
        data = _wav_header(len(data), _rate_hz(mime_type)) + data
    return {
        "id": f"audio_{completion_id.removeprefix('chatcmpl-')}",
        "data": base64.b64encode(data).decode(),
        "expires_at": int(time.time()) + _AUDIO_KEPT_SECONDS,
        "transcript": "",
    }


def _rate_hz(mime_type: str) -> int:
    for parameter in mime_type.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "rate" and value.isdigit():
            return int(value)
    return _PCM_RATE_HZ


def _wav_header(data_bytes: int, rate_hz: int) -> bytes:
    """Return the header of a RIFF file with 16-bit mono samples."""

    def number(value: int, length: int) -> bytes:
        return value.to_bytes(length, "little")

    return b"".join(
        (
            *(b"RIFF", number(36 + data_bytes, 4), b"WAVE", b"fmt ", number(16, 4)),
            *(number(1, 2), number(1, 2), number(rate_hz, 4)),
            *(number(rate_hz * _SAMPLE_BYTES, 4), number(_SAMPLE_BYTES, 2), number(16, 2)),
            *(b"data", number(data_bytes, 4)),
        )
    )
