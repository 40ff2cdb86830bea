"""Messages and their parts, with openai-python."""

import base64
import struct
import zlib
from typing import Any

import openai
import pytest

from clients.gateway import FLASH_25, FLASH_38, Gateway, user
from clients.image_server import file_server


def png() -> bytes:
    """Return the smallest picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")),
            chunk(b"IEND", b""),
        )
    )


def wav() -> bytes:
    """Return a hundredth of a second of silence."""
    samples = bytes(2 * 80)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)
    data = struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(data), b"WAVE") + form + data


PNG = png()
WAV = wav()
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


def encoded(content: bytes) -> str:
    """Return content as base64."""
    return base64.b64encode(content).decode()


def image(url: str) -> dict[str, Any]:
    """Return a content part that names a picture."""
    return {"type": "image_url", "image_url": {"url": url}}


def text(content: str) -> dict[str, Any]:
    """Return a content part of text."""
    return {"type": "text", "text": content}


@pytest.mark.parametrize("model", [FLASH_25, FLASH_38])
def test_27_files_reach_gemini_with_their_types(gateway: Gateway, model: str) -> None:
    with file_server("127.0.0.1", {"/dot": ("application/octet-stream", PNG)}) as server:
        server.redirects["/moved"] = f"{server.url}/dot"
        content = [
            text("What is this?"),
            image(f"data:image/png;base64,{encoded(PNG)}"),
            image(f"{server.url}/dot"),
            image(f"{server.url}/moved"),
            {
                "type": "file",
                "file": {
                    "filename": "paper.pdf",
                    "file_data": f"data:application/pdf;base64,{encoded(PDF)}",
                },
            },
            {"type": "file", "file": {"filename": "paper.pdf", "file_data": encoded(PDF)}},
            {"type": "input_audio", "input_audio": {"data": encoded(WAV), "format": "wav"}},
        ]
        answer = gateway.chat(content, model=model)

    assert answer.choices[0].finish_reason == "stop"
    (body,) = gateway.upstream()
    (turn,) = body["contents"]
    assert turn["parts"][0] == {"text": "What is this?"}
    sent = [
        (part["inlineData"]["mimeType"], base64.b64decode(part["inlineData"]["data"]))
        for part in turn["parts"][1:]
    ]
    assert sent == [
        *[("image/png", PNG)] * 3,
        *[("application/pdf", PDF)] * 2,
        ("audio/wav", WAV),
    ]


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,%%%", "data:image/png;base64,", "data:,x", "no url", "ftp://a/b"]
)
def test_27_an_image_that_is_none_is_refused_by_its_place(gateway: Gateway, url: str) -> None:
    error = gateway.refusal([text("see"), image(url)])

    assert isinstance(error, openai.BadRequestError)
    assert error.code == "invalid_image_url"
    assert error.param == "messages[0].content[1].image_url.url"
    assert gateway.upstream_count() == 0


def test_27_a_page_in_place_of_an_image_is_refused(gateway: Gateway) -> None:
    with file_server("127.0.0.1", {"/page": ("image/png", b"<html>nothing</html>")}) as server:
        error = gateway.refusal([text("see"), image(f"{server.url}/page")])
        gone = gateway.refusal([text("see"), image(f"{server.url}/gone")])

    for refused in (error, gone):
        assert isinstance(refused, openai.BadRequestError)
        assert refused.code == "invalid_image_url"
        assert refused.param == "messages[0].content[1].image_url.url"
    assert gateway.upstream_count() == 0


def test_28_private_addresses_are_not_asked(gateway: Gateway) -> None:
    """127.0.0.1 is allowed in these tests; 127.0.0.2 stands for the networks that are not."""
    with (
        file_server("127.0.0.2", {"/dot": ("image/png", PNG)}) as forbidden,
        file_server("127.0.0.1", {}) as allowed,
    ):
        allowed.redirects["/there"] = f"{forbidden.url}/dot"
        port = forbidden.url.rpartition(":")[2]
        for url in (
            f"{forbidden.url}/dot",
            f"http://[::ffff:127.0.0.2]:{port}/dot",
            f"http://2130706434:{port}/dot",
            f"http://0x7f.0.0.2:{port}/dot",
            f"{allowed.url}/there",
        ):
            error = gateway.refusal([text("see"), image(url)])

            assert isinstance(error, openai.BadRequestError), url
            assert error.code == "invalid_image_url", url
            assert error.param == "messages[0].content[1].image_url.url", url
        assert allowed.paths == ["/there"]
        assert forbidden.paths == []
    assert gateway.upstream_count() == 0


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (user([text("a"), {"type": "smell", "smell": {}}]), "messages[0].content[1].type"),
        ([*user("a"), *user([{"type": "hologram"}])], "messages[1].content[0].type"),
        (
            [*user("a"), {"role": "assistant", "content": [{"type": "x"}]}],
            "messages[1].content[0].type",
        ),
    ],
)
def test_29_an_unknown_part_is_named(
    gateway: Gateway, messages: list[dict[str, Any]], param: str
) -> None:
    error = gateway.refusal(messages)

    assert isinstance(error, openai.BadRequestError)
    assert (error.code, error.param) == ("invalid_value", param)
    assert gateway.upstream_count() == 0


def test_30_all_instructions_reach_the_system_instruction(gateway: Gateway) -> None:
    gateway.chat(
        [
            {"role": "system", "content": "one"},
            {"role": "developer", "content": [text("two"), text("three")]},
            *user("hello"),
            {"role": "assistant", "content": "yes?"},
            {"role": "system", "content": "four"},
            *user("go on"),
        ]
    )

    (body,) = gateway.upstream()
    parts = body["systemInstruction"]["parts"]
    assert [part["text"] for part in parts] == ["one", "two", "three", "four"]
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]


def test_31_instructions_alone_are_a_question(gateway: Gateway) -> None:
    answer = gateway.chat([{"role": "system", "content": "Say something nice"}])

    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content


def test_32_user_messages_in_a_row_are_one_turn(gateway: Gateway) -> None:
    gateway.chat([*user("one"), *user([text("two"), text("")]), *user(""), *user("three")])

    (body,) = gateway.upstream()
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "one"}, {"text": "two"}, {"text": "three"}]}
    ]
