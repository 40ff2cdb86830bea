"""What the checks share: questions to the running proxy, and what of them reached Gemini."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from support.processes import ServiceProcess
from support.stack import ADMIN_KEY, CLIENT_KEY, TIMEOUT_SECONDS, Stack, proxy_env

FLASH_25 = "gemini-2.5-flash"
FLASH_3 = "gemini-3-flash-preview"
FLASH_38 = "gemini-3.8-flash"
# A name without "gemini" in it: the Agents SDK then drops what it does not know.
SMART, SMART_MODEL = "smart", FLASH_38
ON_CLUSTER = os.environ.get("CLIENTS_ON_CLUSTER") == "1"
# Whose key the tests have.
ACCOUNT = "demo" if ON_CLUSTER else "tester"
APP_ORIGIN = "https://app.example.com"
SENTINEL = "skip_thought_signature_validator"


def function(name: str, properties: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a tool that takes some properties, all required; none if none are named."""
    declared: dict[str, Any] = {"name": name, "description": f"Do {name}"}
    if properties:
        declared["parameters"] = {
            "type": "object",
            "properties": dict(properties),
            "required": list(properties),
        }
    return {"type": "function", "function": declared}


WEATHER = function("get_weather", {"city": {"type": "string"}})
CLOCK = function("get_time", {"zone": {"type": "string"}})
WEATHER_CALL = '[[sim call=get_weather args="{\\"city\\":\\"Oslo\\"}"]]'
WEATHER_AND_CLOCK_CALLS = "[[sim call=get_weather,get_time]]"


def user(content: Any) -> list[dict[str, Any]]:
    """Return a conversation of one user message."""
    return [{"role": "user", "content": content}]


def result(call_id: str, content: str) -> dict[str, Any]:
    """Return the message that answers a tool call."""
    return {"role": "tool", "tool_call_id": call_id, "content": content}


@dataclass
class Gateway:
    """A proxy, and the simulator behind it.

    Attributes:
        stack: the whole system.
        url: where the proxy listens.
    """

    stack: Stack
    url: str

    def client(self, **options: Any) -> openai.OpenAI:
        """Return the official client; unless told otherwise it does not retry."""
        settings = {
            "api_key": CLIENT_KEY,
            "base_url": f"{self.url}/v1",
            "max_retries": 0,
            "timeout": TIMEOUT_SECONDS,
            **options,
        }
        return self.stack._exits.enter_context(openai.OpenAI(**settings))

    def plain(self, key: str | None = CLIENT_KEY) -> httpx.Client:
        """Return a client that knows nothing of OpenAI."""
        return self.stack.http(self.url, key)

    def chat(self, content: Any, *, model: str = FLASH_25, **options: Any) -> ChatCompletion:
        """Ask with one user message, or with a whole conversation if it is a list of messages."""
        create: Any = self.client().chat.completions.create
        answer: ChatCompletion = create(model=model, messages=conversation(content), **options)
        return answer

    def stream(
        self, content: Any, *, model: str = FLASH_25, **options: Any
    ) -> list[ChatCompletionChunk]:
        """Ask as `chat` does, for a stream, and return all of its chunks."""
        create: Any = self.client().chat.completions.create
        return list(
            create(model=model, messages=conversation(content), stream=True, **options),
        )

    def helper_stream(
        self, content: Any, *, model: str = FLASH_25, **options: Any
    ) -> ChatCompletion:
        """Ask with the client's stream helper, and return what it has put together."""
        open_stream: Any = self.client().chat.completions.stream
        with open_stream(model=model, messages=conversation(content), **options) as stream:
            final: ChatCompletion = stream.get_final_completion()
        return final

    def refusal(
        self, content: Any, *, model: str = FLASH_25, **options: Any
    ) -> openai.APIStatusError:
        """Ask as `chat` does, and return the error that it must raise."""
        try:
            answer = self.chat(content, model=model, **options)
        except openai.APIStatusError as error:
            assert_openai_error(error.response.json())
            return error
        raise AssertionError(f"it was answered: {answer!r}")

    def upstream(self, count: int = 1) -> list[dict[str, Any]]:
        """Return the bodies of all that Gemini was asked, which must be so many requests."""
        requests = self.stack.wait_for_upstream(count=str(count), ended="true")
        assert len(requests) == count, [(entry["path"], entry["status"]) for entry in requests]
        return [entry["body"] for entry in requests]

    def upstream_count(self, path_part: str = "") -> int:
        """Return how many requests Gemini has received, at once, with this in their paths."""
        return sum(path_part in entry["path"] for entry in self.stack.wait_for_upstream())

    def fault(self, **orders: Any) -> None:
        """Make the simulator's next answer another one; names as in its directives."""
        answer = self.stack.http(self.stack.simulator.url, None).post(
            "/control/faults", json=orders
        )
        assert answer.status_code == 200, answer.text


def conversation(content: Any) -> list[Any]:
    """Return the messages that `Gateway.chat` is given, or makes of a text or content parts."""
    is_whole = isinstance(content, list) and all(openai_message(entry) for entry in content)
    return content if is_whole else user(content)


def openai_message(entry: Any) -> bool:
    """Tell a message, or the client's object of one, from a content part."""
    return not isinstance(entry, dict) or "role" in entry


def assert_openai_error(body: Any) -> None:
    """Check that a body is an error in OpenAI's form, with all four members."""
    assert set(body) == {"error"}, body
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}, body
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    for name in ("param", "code"):
        assert error[name] is None or isinstance(error[name], str), body


def top_up(stack: Stack, account: str, usd: str) -> None:
    """Give an account credit."""
    answer = stack.http(stack.ledger.url, ADMIN_KEY).post(
        "/api/v1/topup",
        json={"user_id": account, "amount": usd},
        headers={"idempotency-key": f"topup-{account}"},
    )
    assert answer.status_code == 201, answer.text


def forget(stack: Stack) -> None:
    """Let the simulator forget requests and faults of earlier checks."""
    stack.forget_upstream()
    answer = stack.http(stack.simulator.url, None).delete("/control/faults")
    assert answer.status_code == 200, answer.text


@contextmanager
def another_proxy(stack: Stack, folder: Path, settings: Mapping[str, str]) -> Iterator[Gateway]:
    """Run one more proxy in front of the same simulator and ledger, with its own data."""
    urls = {"simulator": stack.simulator.url, "ledger": stack.ledger.url}
    env = {**proxy_env(urls, folder), **settings}
    with ServiceProcess("ai-proxy-service", env, cwd=folder) as process:
        yield Gateway(stack, process.url)
