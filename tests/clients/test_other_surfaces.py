"""Embeddings, legacy completions, Cursor's bodies, browsers, and the way through nginx."""

import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from clients.gateway import (
    APP_ORIGIN,
    CLOCK,
    FLASH_25,
    FLASH_38,
    WEATHER,
    WEATHER_CALL,
    Gateway,
    another_proxy,
    user,
)
from support.stack import CLIENT_KEY, Stack

EMBEDDING = "gemini-embedding-001"
ROOT = Path(__file__).resolve().parents[2]


def test_58_embeddings_are_the_same_in_both_encodings(gateway: Gateway) -> None:
    client = gateway.client()
    texts = ["one", "two", "one"]

    packed = client.embeddings.create(model=EMBEDDING, input=texts)
    plain = client.embeddings.create(model=EMBEDDING, input=texts, encoding_format="float")

    assert [entry.index for entry in packed.data] == [0, 1, 2]
    assert packed.data[0].embedding == packed.data[2].embedding != packed.data[1].embedding
    for one, other in zip(packed.data, plain.data, strict=True):
        assert len(one.embedding) == 3072
        assert one.embedding == pytest.approx(other.embedding, rel=1e-6)
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 0


def test_58_shortened_embeddings_have_length_one(gateway: Gateway) -> None:
    answer = gateway.client().embeddings.create(model=EMBEDDING, input="one", dimensions=256)

    (entry,) = answer.data
    assert len(entry.embedding) == 256
    assert math.hypot(*entry.embedding) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("given", ["", [], [""]])
def test_58_nothing_can_not_be_embedded(gateway: Gateway, given: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        gateway.client().embeddings.create(model=EMBEDDING, input=given)

    assert (caught.value.param or "").startswith("input")


def test_legacy_completions(gateway: Gateway) -> None:
    client = gateway.client()

    answer = client.completions.create(model=FLASH_25, prompt=["first one", "second one"])
    chunks = list(
        client.completions.create(
            model=FLASH_25,
            prompt='say [[sim answer="one two"]]',
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    assert answer.object == "text_completion"
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice, words in zip(answer.choices, ("first one", "second one"), strict=True):
        assert words in choice.text
        assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == "one two"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model=FLASH_25, prompt="a", best_of=2)


@pytest.mark.parametrize("streamed", [False, True])
def test_68_cursors_body_gets_a_chat_answer(gateway: Gateway, *, streamed: bool) -> None:
    body = {
        "model": FLASH_38,
        "stream": streamed,
        "input": [
            {"role": "system", "content": "You are an editor"},
            {"role": "user", "content": [{"type": "input_text", "text": f"Oslo {WEATHER_CALL}"}]},
        ],
        "tools": [{"type": "function", **WEATHER["function"]}, CLOCK],
        "tool_choice": "auto",
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "text": {"verbosity": "low"},
        "store": False,
    }
    answer = gateway.plain().post("/v1/chat/completions", json=body)

    assert answer.status_code == 200, answer.text
    form = "chat.completion.chunk" if streamed else "chat.completion"
    assert f'"object":"{form}"' in answer.text
    assert '"name":"get_weather"' in answer.text
    assert '"finish_reason":"tool_calls"' in answer.text
    (sent,) = gateway.upstream()
    assert sent["systemInstruction"]["parts"] == [{"text": "You are an editor"}]
    declared = [entry for tool in sent["tools"] for entry in tool["functionDeclarations"]]
    assert [entry["name"] for entry in declared] == ["get_weather", "get_time"]
    assert sent["generationConfig"]["thinkingConfig"]["thinkingLevel"] == "LOW"


def test_68_cursors_history_of_calls_is_understood(gateway: Gateway) -> None:
    body = {
        "model": FLASH_25,
        "input": [
            {"role": "user", "content": "Oslo?"},
            {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "3 degrees"},
        ],
        "tools": [{"type": "function", **WEATHER["function"]}],
    }
    answer = gateway.plain().post("/v1/chat/completions", json=body)

    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    (sent,) = gateway.upstream()
    assert [content["role"] for content in sent["contents"]] == ["user", "model", "user"]
    response = sent["contents"][2]["parts"][0]["functionResponse"]
    assert response == {"id": "c1", "name": "get_weather", "response": {"output": "3 degrees"}}


STAINLESS = "authorization,content-type,x-stainless-lang,x-stainless-retry-count"


def preflight(gateway: Gateway, headers: str) -> Any:
    """Ask as a browser does before it posts."""
    return gateway.plain(None).options(
        "/v1/chat/completions",
        headers={
            "origin": APP_ORIGIN,
            "access-control-request-method": "POST",
            "access-control-request-headers": headers,
        },
    )


def test_69_a_browser_may_post_with_a_key(gateway: Gateway) -> None:
    answer = preflight(gateway, "authorization,content-type")

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == APP_ORIGIN
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    assert preflight(gateway, STAINLESS).status_code == 400


def test_69_openais_client_in_a_browser_needs_reflect(stack: Stack, tmp_path: Path) -> None:
    settings = {"CORS_ALLOWED_ORIGINS": APP_ORIGIN, "CORS_ALLOWED_HEADERS": "reflect"}
    with another_proxy(stack, tmp_path, settings) as gateway:
        answer = preflight(gateway, STAINLESS)

    assert answer.status_code == 200
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert "x-stainless-retry-count" in allowed


@contextmanager
def nginx(program: str, folder: Path, proxy_url: str) -> Iterator[Path]:
    """Run nginx with the guide's own settings, less TLS, and yield the socket it listens on."""
    socket = folder / "nginx.sock"
    guide = (ROOT / "DEPLOYMENT_GUIDE.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```nginx\n(.*?)```", guide, re.DOTALL)
    block = re.sub(r"(?m)^\s*ssl_certificate.*\n", "", block)
    block = block.replace("listen 443 ssl;", f"listen unix:{socket};")
    block = block.replace("127.0.0.1:8002", proxy_url.removeprefix("http://"))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    settings = folder / "nginx.conf"
    settings.write_text(
        f"pid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{block}}}\n"
    )
    command = [program, "-p", str(folder), "-c", str(settings), "-e", str(folder / "error.log")]
    subprocess.run(command, check=True, timeout=30)  # it returns once it listens
    try:
        yield socket
    finally:
        subprocess.run([*command, "-s", "stop"], check=True, timeout=30)


def assert_tokens_come_one_by_one(gateway: Gateway, url: str, *options: str) -> None:
    """Let Gemini produce a token only when curl has shown the one before."""
    gate = f"curl-{len(options)}"
    body = {
        "model": FLASH_25,
        "messages": user(f"hi [[sim tokens=4 thoughts=0 gate={gate}]]"),
        "stream": True,
    }
    command = ["curl", "-sSN", "--fail-with-body", "--max-time", "60", *options, url]
    headers = ["-H", f"authorization: Bearer {CLIENT_KEY}", "-H", "content-type: application/json"]
    shown: list[str] = []
    gateway.stack.release(gate, 1)
    with subprocess.Popen(
        [*command, *headers, "-d", json.dumps(body)], stdout=subprocess.PIPE, text=True
    ) as curl:
        assert curl.stdout is not None
        for line in curl.stdout:
            if not line.startswith("data: {"):
                continue
            content = json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content")
            if content:
                shown.append(content)
                gateway.stack.release(gate, 1)
    assert curl.returncode == 0
    assert len(shown) == 4


def test_70_curl_shows_tokens_as_they_come(gateway: Gateway) -> None:
    assert_tokens_come_one_by_one(gateway, f"{gateway.url}/v1/chat/completions")


@pytest.mark.one_proxy("all go through nginx there")
def test_70_curl_shows_tokens_as_they_come_through_the_guides_nginx(
    gateway: Gateway, tmp_path: Path
) -> None:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed: the guide's settings for it are not tried")
    with nginx(program, tmp_path, gateway.url) as socket:
        assert_tokens_come_one_by_one(
            gateway, "http://ai.company.com/v1/chat/completions", "--unix-socket", str(socket)
        )
