"""The requests of a soak: each kind with what must come back, and what it must cost."""

import asyncio
import json
import random
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
from benchmarks.processes import BenchmarkError
from benchmarks.services import CLIENT_KEY, bearer, nanos

MODEL = "gemini-2.5-flash"
PAYER, LEAVER, KEY_HOLDER, POOR = "soak", "soak-left", "soak-key", "soak-poor"
_CHAT, _QUOTE, _MODELS, _RECEIPTS = (
    "/v1/chat/completions",
    "/v1/quote",
    "/v1/models",
    "/v1/receipts",
)
_OK = 200
# A stream lasts about a second, so that some are always open.
_STREAM_TEXT = "[[sim tokens=30 thoughts=0 pace=30]] Tell me something, piece by piece."
_SECONDS_MAX = 60

Json = dict[str, Any]


def _body(text: str, account: str | None = PAYER, **fields: Any) -> Json:
    paying = {"user": account} if account else {}
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, "max_tokens": 200, **paying, **fields}


def _streamed(account: str) -> Json:
    return _body(_STREAM_TEXT, account, stream=True, stream_options={"include_usage": True})


class Requests:
    """Sends requests of all kinds and books what the answers say that they cost.

    Attributes:
        spent_nanos: by account, what its answers cost in all.
        answered: how many requests of each kind went as they must.
        faults: what did not; any of them fails the soak.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, issued_key: str) -> None:
        self._session = session
        self._url = url
        self._issued_key = issued_key
        self._random = random.Random(0)  # noqa: S311 - the same mix each time
        self._stream_nanos = 0
        self._last_id = ""
        self._last_cost = ""
        self.spent_nanos: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.faults: list[str] = []
        self._kinds: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "whole": (25, self._whole),
            "stream": (25, self._stream),
            "client leaves": (8, self._leave),
            "quote": (10, self._quote),
            "models": (8, self._models),
            "repeat": (8, self._repeat),
            "issued key": (8, self._issued),
            "receipt": (3, self._receipt),
            "no such key": (2, self._no_such_key),
            "no credit": (1, self._no_credit),
            "no such model": (1, self._no_such_model),
            "bad request": (1, self._bad_request),
        }

    async def learn(self) -> None:
        """See once what everything costs that is not told to a client that leaves."""
        await self._whole()
        before = self.spent_nanos[PAYER]
        await self._stream()
        self._stream_nanos = self.spent_nanos[PAYER] - before

    async def send_any(self) -> None:
        """Send one request of a kind that chance names; note what came of it."""
        names = list(self._kinds)
        weights = [weight for weight, _ in self._kinds.values()]
        (name,) = self._random.choices(names, weights)
        try:
            async with asyncio.timeout(_SECONDS_MAX):
                await self._kinds[name][1]()
        except (BenchmarkError, aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            self.faults.append(f"{name}: {type(error).__name__}: {error}")
        else:
            self.answered[name] += 1

    async def _whole(self) -> None:
        answer = await self._complete(_body(self._some_text()), CLIENT_KEY)
        self._book(PAYER, answer)

    async def _issued(self) -> None:
        answer = await self._complete(_body(self._some_text(), None), self._issued_key)
        self._book(KEY_HOLDER, answer)

    async def _repeat(self) -> None:
        body, key = _body(self._some_text()), {"idempotency-key": uuid.uuid4().hex}
        first = await self._complete(body, CLIENT_KEY, key)
        self._book(PAYER, first)
        if await self._complete(body, CLIENT_KEY, key) != first:
            raise BenchmarkError("a repeat was answered otherwise")

    async def _stream(self) -> None:
        said, usage, ended = "", None, False
        async with self._post(_CHAT, _streamed(PAYER)) as response:
            _expect(response.status, _OK)
            async for line in response.content:
                event = line.strip().removeprefix(b"data: ")
                ended = ended or event == b"[DONE]"
                if not event or ended:
                    continue
                chunk = json.loads(event)
                usage = chunk.get("usage") or usage
                said += "".join(each["delta"].get("content") or "" for each in chunk["choices"])
        if not (ended and said and usage):
            raise BenchmarkError(f"a stream ended early, after {said!r}")
        self.spent_nanos[PAYER] += nanos(usage["cost"])

    async def _leave(self) -> None:
        async with self._post(_CHAT, _streamed(LEAVER)) as response:
            _expect(response.status, _OK)
            await response.content.readline()
            response.close()
        # Read to its end without the client, it costs what the same stream costs that is taken.
        self.spent_nanos[LEAVER] += self._stream_nanos

    async def _quote(self) -> None:
        async with self._post(_QUOTE, _body(self._some_text())) as response:
            found = await _json(response, _OK)
        if not nanos(found["max_cost"]):
            raise BenchmarkError(f"a quote of nothing: {found}")

    async def _models(self) -> None:
        async with self._session.get(self._url + _MODELS, headers=bearer(CLIENT_KEY)) as response:
            if MODEL not in {each["id"] for each in (await _json(response, _OK))["data"]}:
                raise BenchmarkError("the list of models is short")

    async def _receipt(self) -> None:
        path, cost = f"{_RECEIPTS}/{self._last_id}", self._last_cost
        async with self._session.get(self._url + path, headers=bearer(CLIENT_KEY)) as response:
            found = await _json(response, _OK)
        if nanos(found["cost"]) != nanos(cost):
            raise BenchmarkError(f"the receipt of an answer for {cost}: {found}")

    async def _no_such_key(self) -> None:
        async with self._post(_CHAT, _body("hi"), "sk-nobody-has-this-key-00") as response:
            await _json(response, 401)

    async def _no_credit(self) -> None:
        async with self._post(_CHAT, _body("hi", POOR)) as response:
            await _json(response, 402)

    async def _no_such_model(self) -> None:
        async with self._post(_CHAT, _body("hi", model="no-such-model")) as response:
            await _json(response, 400)

    async def _bad_request(self) -> None:
        async with self._post(_CHAT, _body("hi", temperature="hot")) as response:
            await _json(response, 400)

    def _some_text(self) -> str:
        tokens = self._random.randint(1, 60)
        return f"[[sim tokens={tokens} thoughts=0]] Tell me about {uuid.uuid4().hex}."

    async def _complete(
        self, body: Json, key: str, headers: Mapping[str, str] | None = None
    ) -> Json:
        async with self._post(_CHAT, body, key, headers) as response:
            return await _json(response, _OK)

    def _book(self, account: str, answer: Json) -> None:
        if answer["choices"][0]["finish_reason"] != "stop":
            raise BenchmarkError(f"an answer that did not end: {answer}")
        cost = answer["usage"]["cost"]
        self.spent_nanos[account] += nanos(cost)
        if account == PAYER:
            self._last_id, self._last_cost = answer["id"], cost

    def _post(
        self, path: str, body: Json, key: str = CLIENT_KEY, headers: Mapping[str, str] | None = None
    ) -> Any:
        sent = {**bearer(key), **(headers or {})}
        return self._session.post(self._url + path, json=body, headers=sent)


def _expect(status: int, expected: int, said: str = "") -> None:
    if status != expected:
        raise BenchmarkError(f"answered with {status} instead of {expected}: {said[:300]}")


async def _json(response: aiohttp.ClientResponse, status: int) -> Json:
    text = await response.text()
    _expect(response.status, status, text)
    found: Json = json.loads(text)
    return found
