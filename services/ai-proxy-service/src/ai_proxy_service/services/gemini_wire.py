"""Decode what Gemini sends, errors included, whichever transport brought it."""

import msgspec

from ai_proxy_service.core.gemini import ErrorStatus, GeminiError, GenerateContentResponse


class _ErrorBody(msgspec.Struct):
    error: ErrorStatus


_ANSWER = msgspec.json.Decoder(GenerateContentResponse)
_ERROR = msgspec.json.Decoder(_ErrorBody | list[_ErrorBody])


def decode_answer(data: bytes | str) -> GenerateContentResponse:
    """Decode an answer or one chunk.

    Raises:
        GeminiError: it is an error object, or not what Gemini documents.
    """
    try:
        answer = _ANSWER.decode(data)
    except msgspec.DecodeError as error:
        raise GeminiError(502, "MALFORMED", f"unreadable answer: {error}") from error
    if answer.error is not None:
        raise GeminiError.of(answer.error)
    return answer


def decode_error(http_status: int, body: bytes) -> GeminiError:
    """Read an error answer: the object, the object in a list, or anything else."""
    try:
        decoded = _ERROR.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return GeminiError(http_status, "UNKNOWN", body[:500].decode("utf-8", "replace"))
    found = decoded[0] if isinstance(decoded, list) and decoded else decoded
    if isinstance(found, _ErrorBody):
        return GeminiError.of(found.error, http_status)
    return GeminiError(http_status, "UNKNOWN", "empty error list")
