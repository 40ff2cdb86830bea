"""Content parts of OpenAI's messages as parts of Gemini's."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ai_proxy_service.core.errors import InvalidRequestError, missing_parameter
from ai_proxy_service.core.interfaces import Media
from ai_proxy_service.core.media_tokens import media_bound_tokens
from ai_proxy_service.translation.model_traits import ModelTraits
from ai_proxy_service.translation.openai_types import ContentPart, InputAudio, InputFile, MediaUrl

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*(;base64)?,", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_WHITE = re.compile(r"\s+")
_FILES_API = "https://generativelanguage.googleapis.com/v1beta/"
_FILE_ID = re.compile(
    r"(?:https://generativelanguage\.googleapis\.com/v1(?:beta)?/)?files/[A-Za-z0-9_-]{1,128}"
)
_URL_CHARS_MAX = 8_192
_AUDIO_TYPES = {
    "wav": "audio/wav",
    "mp3": "audio/mp3",
    **{name: f"audio/{name}" for name in ("aiff", "aac", "ogg", "flac")},
}
_TYPES_BY_ENDING = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "xml": "text/xml",
    "json": "application/json",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "mp4": "video/mp4",
    "mov": "video/mov",
    "webm": "video/webm",
    **_AUDIO_TYPES,
}
_RESOLUTIONS = {"low": "MEDIA_RESOLUTION_LOW", "high": "MEDIA_RESOLUTION_HIGH"}
_URL_PARTS = {"image_url": "image/", "video_url": "video/", "input_video": "video/"}
SUPPORTED = "'text', 'image_url', 'input_audio', 'file', 'video_url' and 'refusal'"


@dataclass(slots=True)
class Attachments:
    """What a request carries besides text, for the bound on its tokens.

    Attributes:
        fetched: files that the messages name by URL.
        base64_chars: characters of the encoded request that are no text.
        tokens: the most tokens that they can have.
        of_unknown_size: something is named only, and may be of any size.
        audible: some of it may have sound, which costs more than text.
    """

    fetched: Mapping[str, Media] = field(default_factory=dict)
    base64_chars: int = 0
    tokens: int = 0
    of_unknown_size: bool = False
    audible: bool = False

    def inline(self, mime_type: str, data: str) -> dict[str, Any]:
        """Take up a file and return its part."""
        self.base64_chars += len(data)
        self.audible = self.audible or mime_type.startswith(("audio/", "video/"))
        self.tokens += media_bound_tokens(mime_type, data)
        return {"inlineData": {"mimeType": mime_type, "data": data}}

    def by_name(self, uri: str, mime_type: str = "") -> dict[str, Any]:
        """Return the part of a file that Gemini gets for itself."""
        self.of_unknown_size = self.audible = True
        return {"fileData": {"fileUri": uri, **({"mimeType": mime_type} if mime_type else {})}}


def remote_url(part: ContentPart) -> str | None:
    """Return the URL of a file that has to be fetched for a part."""
    if part.type not in _URL_PARTS:
        return None
    url = _url_of(part)
    # Videos are too large to be passed on: Gemini gets them for itself.
    is_remote = part.type == "image_url" and url.lower().startswith(("https://", "http://"))
    return url if is_remote else None


def _url_of(part: ContentPart) -> str:
    given = getattr(part, part.type)
    return given.url if isinstance(given, MediaUrl) else given or ""


def gemini_part(
    part: ContentPart, where: str, attachments: Attachments, traits: ModelTraits
) -> dict[str, Any] | None:
    """Translate one part; None for one without content, which Gemini refuses.

    Raises:
        InvalidRequestError: an unknown kind, or content that is not what its kind says.
    """
    if part.type == "text":
        if part.text is None:
            raise missing_parameter(f"{where}.text")
        return {"text": part.text} if part.text else None
    if part.type == "refusal":
        return {"text": part.refusal} if part.refusal else None
    if part.type in _URL_PARTS:
        return _from_url(part, where, attachments, traits)
    if part.type == "input_audio":
        if part.input_audio is None:
            raise missing_parameter(f"{where}.input_audio")
        return _audio(part.input_audio, f"{where}.input_audio", attachments)
    if part.type == "file":
        if part.file is None:
            raise missing_parameter(f"{where}.file")
        return _file(part.file, f"{where}.file", attachments)
    raise InvalidRequestError(
        f"Invalid value: '{part.type[:64]}'. Supported values are: {SUPPORTED}.",
        field=f"{where}.type",
    )


def _from_url(
    part: ContentPart, where: str, attachments: Attachments, traits: ModelTraits
) -> dict[str, Any]:
    given = getattr(part, part.type)
    if given is None:
        raise missing_parameter(f"{where}.{part.type}")
    at = f"{where}.{part.type}.url" if isinstance(given, MediaUrl) else f"{where}.{part.type}"
    url = _url_of(part)
    if part.type != "image_url" and url.startswith("https://") and len(url) <= _URL_CHARS_MAX:
        return attachments.by_name(url)
    if fetched := attachments.fetched.get(url):
        mime_type, data = fetched.mime_type, fetched.data
    else:
        mime_type, data = _data_url(url, at)
    if part.type == "image_url" and not mime_type.startswith(_URL_PARTS[part.type]):
        raise InvalidRequestError(
            "Invalid image: the URL does not lead to an image.",
            code="invalid_image_url",
            field=at,
        )
    translated = attachments.inline(mime_type, data)
    detail = given.detail if isinstance(given, MediaUrl) else None
    if traits.is_third and detail in _RESOLUTIONS:
        translated["mediaResolution"] = {"level": _RESOLUTIONS[detail]}
    return translated


def _data_url(url: str, where: str) -> tuple[str, str]:
    head = _DATA_URL.match(url)
    if head is None or not head[2]:
        raise InvalidRequestError(
            "Invalid URL: expected an 'https:' URL or 'data:<type>;base64,<data>'.",
            code="invalid_image_url",
            field=where,
        )
    data = _base64(url[head.end() :])
    if data is None:
        raise InvalidRequestError(
            "Invalid data: it is not base64.", code="invalid_image_url", field=where
        )
    return (head[1] or "application/octet-stream").lower(), data


def _base64(text: str) -> str | None:
    """Return base64 in its standard form, or None; most of it is only looked at, not decoded."""
    if not _BASE64.fullmatch(text):
        # Line breaks are common in what command-line tools make.
        text = _WHITE.sub("", text)
        if not _BASE64.fullmatch(text):
            return None
    text = text.replace("-", "+").replace("_", "/").rstrip("=")
    if not text:
        return None
    text += "=" * (-len(text) % 4)
    try:
        base64.b64decode(text[-4:], validate=True)
    except binascii.Error:
        return None
    return text


def _audio(audio: InputAudio, where: str, attachments: Attachments) -> dict[str, Any]:
    mime_type = _AUDIO_TYPES.get(audio.format.lower())
    if mime_type is None:
        raise InvalidRequestError(
            f"Invalid value: '{audio.format[:64]}'. Supported values are: "
            f"{', '.join(repr(name) for name in _AUDIO_TYPES)}.",
            field=f"{where}.format",
        )
    data = _base64(audio.data.partition(",")[2] if audio.data.startswith("data:") else audio.data)
    if data is None:
        raise InvalidRequestError("Invalid data: it is not base64.", field=f"{where}.data")
    return attachments.inline(mime_type, data)


def _file(file: InputFile, where: str, attachments: Attachments) -> dict[str, Any]:
    ending = (file.filename or "").rpartition(".")[2].lower()
    mime_type = _TYPES_BY_ENDING.get(ending, "")
    if file.file_id is not None:
        if not _FILE_ID.fullmatch(file.file_id):
            raise InvalidRequestError(
                "Invalid file id: expected the name of a file in Gemini's Files API, such as "
                "'files/abc123'.",
                field=f"{where}.file_id",
            )
        is_uri = file.file_id.startswith("https:")
        uri = file.file_id if is_uri else f"{_FILES_API}{file.file_id}"
        return attachments.by_name(uri, mime_type)
    if file.file_data is None:
        raise missing_parameter(f"{where}.file_data")
    if file.file_data.startswith("data:"):
        given, data = _file_url(file.file_data, f"{where}.file_data")
        if given != "application/octet-stream" or not mime_type:
            mime_type = given
    else:
        data = _base64(file.file_data)
    if data is None:
        raise InvalidRequestError("Invalid data: it is not base64.", field=f"{where}.file_data")
    if not mime_type:
        raise InvalidRequestError(
            "The type of the file is not known: send it as a 'data:' URL, or with a file name "
            "such as 'report.pdf'.",
            field=f"{where}.filename",
        )
    return attachments.inline(mime_type, data)


def _file_url(url: str, where: str) -> tuple[str, str | None]:
    try:
        return _data_url(url, where)
    except InvalidRequestError as error:
        error.code = "invalid_value"
        raise
