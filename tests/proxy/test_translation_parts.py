"""Content parts: pictures, sound, files and video as Gemini's parts, and what is refused."""

import base64
from typing import Any

import msgspec
import pytest

from ai_proxy_service.core.interfaces import Media
from ai_proxy_service.translation.openai_types import ChatRequest
from ai_proxy_service.translation.request import parse_chat, remote_urls
from support.chats import (
    FLASH_2,
    FLASH_3,
    USER,
    Json,
    assert_refused,
    call,
    calls,
    config,
    contents,
    refusal,
    result,
    translate,
)

PNG = "data:image/png;base64,AAAA"
FILES = "https://generativelanguage.googleapis.com/v1beta/files/abc-123"
RESOLUTION_LOW = {"mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}}
RESOLUTION_HIGH = {"mediaResolution": {"level": "MEDIA_RESOLUTION_HIGH"}}


def inline(mime_type: str, data: str = "AAAA") -> Json:
    return {"inlineData": {"mimeType": mime_type, "data": data}}


def by_name(uri: str) -> Json:
    return {"fileData": {"fileUri": uri}}


def image(url: str, **fields: Any) -> Json:
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def audio(data: str, name: str) -> Json:
    return {"type": "input_audio", "input_audio": {"data": data, "format": name}}


def file(**fields: Any) -> Json:
    return {"type": "file", "file": fields}


def part(given: Json, model: str = FLASH_3, **options: Any) -> Json:
    """Return what one part of a user's message becomes."""
    (content,) = contents([{"role": "user", "content": [given]}], model, **options)
    (found,) = content["parts"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("given", "translated"),
    [
        ({"type": "text", "text": "x"}, {"text": "x"}),
        ({"type": "refusal", "refusal": "no"}, {"text": "no"}),
        (image(PNG), inline("image/png")),
        ({"type": "image_url", "image_url": PNG}, inline("image/png")),
        (image("data:IMAGE/JPEG;BASE64,AAAA"), inline("image/jpeg")),
        (image("data:image/png;charset=utf-8;base64,AAAA"), inline("image/png")),
        (image("data:image/png;base64,AA\r\nAA"), inline("image/png")),
        (image("data:image/png;base64,_-8"), inline("image/png", "/+8=")),
        (image(PNG, detail="auto"), inline("image/png")),
        (image(PNG, detail=None), inline("image/png")),
        (image(PNG, detail="low"), inline("image/png") | RESOLUTION_LOW),
        (image(PNG, detail="high"), inline("image/png") | RESOLUTION_HIGH),
        (audio("AAAA", "wav"), inline("audio/wav")),
        (audio("AAAA", "mp3"), inline("audio/mp3")),
        (audio("AAAA", "MP3"), inline("audio/mp3")),
        *((audio("AAAA", name), inline(f"audio/{name}")) for name in ("aiff", "aac", "ogg")),
        (audio("AAAA", "flac"), inline("audio/flac")),
        (audio("data:audio/wav;base64,AAAA", "wav"), inline("audio/wav")),
        (
            file(file_data="data:application/pdf;base64,AAAA", filename="x.txt"),
            inline("application/pdf"),
        ),
        (file(file_data="AAAA", filename="Report.PDF"), inline("application/pdf")),
        (
            file(file_data="data:application/octet-stream;base64,AAAA", filename="a.csv"),
            inline("text/csv"),
        ),
        (file(file_id="files/abc-123"), by_name(FILES)),
        (file(file_id=FILES), by_name(FILES)),
        (
            {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
            inline("video/mp4"),
        ),
        (
            {"type": "video_url", "video_url": {"url": "https://youtu.be/x"}},
            by_name("https://youtu.be/x"),
        ),
        (
            {"type": "input_video", "input_video": "https://example.com/a.mp4"},
            by_name("https://example.com/a.mp4"),
        ),
    ],
)
def test_each_kind_has_its_form(given: Json, translated: Json) -> None:
    assert part(given) == translated


def test_only_gemini_3_takes_a_resolution_for_each_picture() -> None:
    assert part(image(PNG, detail="low"), FLASH_2) == inline("image/png")


def test_parts_keep_their_order() -> None:
    given = [{"type": "text", "text": "a"}, image(PNG), {"type": "text", "text": "b"}]

    (content,) = contents([{"role": "user", "content": given}])

    assert content["parts"] == [{"text": "a"}, inline("image/png"), {"text": "b"}]


AT = "messages[1].content[1]"


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ({"type": "hologram"}, "type", "invalid_value"),
        ({"type": "input_text", "text": "x"}, "type", "invalid_value"),
        ({"type": "text"}, "text", "missing_required_parameter"),
        ({"type": "image_url"}, "image_url", "missing_required_parameter"),
        (image("data:image/png;base64,A"), "image_url.url", "invalid_image_url"),
        (image("data:image/png;base64,"), "image_url.url", "invalid_image_url"),
        (image("data:image/png;base64,=="), "image_url.url", "invalid_image_url"),
        (image("data:image/png;base64, "), "image_url.url", "invalid_image_url"),
        (image("data:image/png;base64,AA!A"), "image_url.url", "invalid_image_url"),
        (image("data:image/png,plain"), "image_url.url", "invalid_image_url"),
        (image("data:text/html;base64,AAAA"), "image_url.url", "invalid_image_url"),
        (image("data:;base64,AAAA"), "image_url.url", "invalid_image_url"),
        (image("file:///etc/passwd"), "image_url.url", "invalid_image_url"),
        (image("AAAA"), "image_url.url", "invalid_image_url"),
        (image(""), "image_url.url", "invalid_image_url"),
        ({"type": "input_audio"}, "input_audio", "missing_required_parameter"),
        (audio("AAAA", "midi"), "input_audio.format", "invalid_value"),
        (audio("?", "wav"), "input_audio.data", "invalid_value"),
        (audio("", "wav"), "input_audio.data", "invalid_value"),
        ({"type": "file"}, "file", "missing_required_parameter"),
        (file(filename="a.pdf"), "file.file_data", "missing_required_parameter"),
        (file(file_data="AAAA"), "file.filename", "invalid_value"),
        (file(file_data="AAAA", filename="a.exe"), "file.filename", "invalid_value"),
        (file(file_data="?", filename="a.pdf"), "file.file_data", "invalid_value"),
        (file(file_data="data:x", filename="a.pdf"), "file.file_data", "invalid_value"),
        (file(file_id="file-openai"), "file.file_id", "invalid_value"),
        (file(file_id="files/../x"), "file.file_id", "invalid_value"),
        (file(file_id="https://evil.example/files/x"), "file.file_id", "invalid_value"),
    ],
)
def test_what_is_not_what_it_says_is_refused_where_it_stands(
    given: Json, param: str, code: str
) -> None:
    text = {"type": "text", "text": "x"}

    error = refusal(FLASH_3, messages=[USER, {"role": "user", "content": [text, given]}])

    assert_refused(error, f"{AT}.{param}", code)


def chat(*messages: Json) -> ChatRequest:
    return parse_chat(msgspec.json.encode({"model": FLASH_3, "messages": list(messages)}))


def test_remote_pictures_are_named_once_with_the_place_of_their_first_mention() -> None:
    one, two = "https://example.com/1.png", "HTTP://example.com/2.png"
    found = remote_urls(
        chat(
            {"role": "user", "content": [{"type": "text", "text": "x"}, image(one), image(PNG)]},
            {"role": "user", "content": [image(one), image(two)]},
            calls(call("a")),
            result("a", [{"type": "image_url", "image_url": "https://example.com/3.png"}]),
            {"role": "user", "content": [{"type": "video_url", "video_url": "https://youtu.be/x"}]},
        )
    )

    assert found == {
        one: "messages[0].content[1].image_url.url",
        two: "messages[1].content[1].image_url.url",
        "https://example.com/3.png": "messages[3].content[0].image_url.url",
    }


def test_a_fetched_picture_is_what_its_content_was_found_to_be() -> None:
    url = "https://example.com/picture"
    fetched = {url: Media("image/webp", "AAAA", 3)}

    assert part(image(url), fetched=fetched) == inline("image/webp")


@pytest.mark.parametrize("fetched", [{}, {"https://e.com/x": Media("text/html", "AAAA", 3)}])
def test_a_remote_picture_that_is_none_is_refused(fetched: dict[str, Media]) -> None:
    message = {"role": "user", "content": [image("https://e.com/x")]}

    error = refusal(FLASH_3, messages=[message], fetched=fetched)

    assert_refused(error, "messages[0].content[0].image_url.url", "invalid_image_url")


def test_the_bound_counts_text_by_its_bytes_and_files_by_what_they_are() -> None:
    large = base64.b64encode(b"x" * 300_000).decode()
    plain = translate(messages=[USER]).prompt_bound_tokens
    pictured = translate(
        messages=[{"role": "user", "content": [image(f"data:image/png;base64,{large}")]}]
    ).prompt_bound_tokens

    assert plain is not None
    assert plain < 200
    assert pictured is not None
    assert pictured < len(large)


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": [file(file_id="files/a")]}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "video_url", "video_url": "https://youtu.be/x"}],
                }
            ]
        },
        {"google": {"cached_content": "cachedContents/a"}},
    ],
)
def test_what_is_only_named_may_be_of_any_size(fields: Json) -> None:
    assert translate(FLASH_3, **fields).prompt_bound_tokens is None


def test_one_resolution_for_all_pictures_is_an_option_of_googles() -> None:
    assert config(google={"media_resolution": "low"})["mediaResolution"] == "MEDIA_RESOLUTION_LOW"
