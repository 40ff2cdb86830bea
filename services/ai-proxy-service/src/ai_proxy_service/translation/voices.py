"""OpenAI's voices as Gemini's, for models that speak.

https://ai.google.dev/gemini-api/docs/speech-generation#voices; which of them is nearest to which
of OpenAI's is our choice.
"""

from typing import Any

from ai_proxy_service.core.errors import InvalidRequestError
from ai_proxy_service.translation.openai_types import AudioOutput

_VOICES = {
    "alloy": "Kore",
    "ash": "Orus",
    "ballad": "Algieba",
    "coral": "Leda",
    "echo": "Charon",
    "fable": "Puck",
    "nova": "Aoede",
    "onyx": "Fenrir",
    "sage": "Callirrhoe",
    "shimmer": "Autonoe",
    "verse": "Enceladus",
    "marin": "Despina",
    "cedar": "Iapetus",
}
_DEFAULT = "Kore"
_FORMATS = frozenset({"wav", "pcm16"})


def speech_config(audio: AudioOutput | None) -> dict[str, Any]:
    """Return Gemini's `speechConfig`; a voice that is not OpenAI's is taken for Gemini's own.

    Raises:
        InvalidRequestError: a voice by id, or a format that would have to be encoded.
    """
    voice = audio.voice if audio is not None else None
    if isinstance(voice, dict):
        raise InvalidRequestError("Voices of your own are not supported.", field="audio.voice")
    if audio is not None and audio.format is not None and audio.format not in _FORMATS:
        raise InvalidRequestError(
            "Supported values of 'audio.format' are: 'wav' and 'pcm16'.", field="audio.format"
        )
    name = _VOICES.get((voice or "").lower(), voice) or _DEFAULT
    return {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": name}}}
