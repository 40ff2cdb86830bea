"""Decode what Gemini sends, errors included, whichever transport brought it."""

from typing import Annotated

import msgspec

from ai_proxy_service.core.gemini import ErrorStatus, GeminiError, GenerateContentResponse


class _ErrorBody(msgspec.Struct):
    error: ErrorStatus


class _Count(msgspec.Struct, rename="camel"):
    total_tokens: Annotated[int, msgspec.Meta(ge=1)]


class _Model(msgspec.Struct, rename="camel"):
    name: str
    supported_generation_methods: list[str] = []


class _Models(msgspec.Struct, rename="camel"):
    models: list[_Model] = []
    next_page_token: str = ""


_USED_METHODS = frozenset({"generateContent", "embedContent"})
# What msgspec raises for bytes that are not what they should be.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ANSWER = msgspec.json.Decoder(GenerateContentResponse)
_ERROR = msgspec.json.Decoder(_ErrorBody | list[_ErrorBody])
_COUNT = msgspec.json.Decoder(_Count)
_MODELS = msgspec.json.Decoder(_Models)


def decode_answer(data: bytes | str) -> GenerateContentResponse:
    """Decode an answer or one chunk.

    Raises:
        GeminiError: it is an error object, or not what Gemini documents.
    """
    try:
        answer = _ANSWER.decode(data)
    except _UNREADABLE as error:
        raise _unreadable(error) from error
    if answer.error is not None:
        raise GeminiError.of(answer.error)
    return answer


def decode_error(http_status: int, body: bytes) -> GeminiError:
    """Read an error answer: the object, the object in a list, or anything else."""
    try:
        decoded = _ERROR.decode(body)
    except _UNREADABLE:
        return GeminiError(http_status, "UNKNOWN", body[:500].decode("utf-8", "replace"))
    found = decoded[0] if isinstance(decoded, list) and decoded else decoded
    if isinstance(found, _ErrorBody):
        return GeminiError.of(found.error, http_status)
    return GeminiError(http_status, "UNKNOWN", "empty error list")


def decode_count(body: bytes) -> int:
    """Read the answer of `countTokens`.

    Raises:
        GeminiError: it has no count: taken for 0, it would let anybody pay.
    """
    try:
        return _COUNT.decode(body).total_tokens
    except _UNREADABLE as error:
        raise _unreadable(error) from error


def decode_models(body: bytes) -> tuple[list[str], str]:
    """Read a page of the list of models: ids that can be used here, and the next page's token.

    Raises:
        GeminiError: it is not such a page.
    """
    try:
        page = _MODELS.decode(body)
    except _UNREADABLE as error:
        raise _unreadable(error) from error
    names = [
        model.name.removeprefix("models/")
        for model in page.models
        if _USED_METHODS & set(model.supported_generation_methods)
    ]
    return names, page.next_page_token


def described(error: BaseException) -> str:
    """Name a failure of a transport: its text may quote what was sent or what came."""
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


def _unreadable(error: Exception) -> GeminiError:
    return GeminiError(502, "MALFORMED", f"unreadable answer: {error}")
