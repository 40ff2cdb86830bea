"""Send an answer at its pace, with the failures that were ordered."""

import asyncio
import base64
import hashlib
from collections.abc import Iterator
from typing import Any

from gemini_simulator.answer import Answer
from gemini_simulator.behaviour import Behaviour
from gemini_simulator.chunks import Step, stream_steps, whole_response
from gemini_simulator.errors import ApiError, make_error
from gemini_simulator.exchange import Exchange
from gemini_simulator.settings import Settings
from gemini_simulator.state import Memory
from gemini_simulator.wire import JSON_HEADERS, Encoder

# Without a pace a stream still lets others run, and a disconnect be noticed, this often.
_CHUNKS_PER_TURN = 8
_ENDLESS_GATE = "stall"


class Delivery:
    """The response to one request.

    Args:
        exchange: the connection.
        encoder: the form of the response.
        memory: gates, and the count of open streams.
        settings: what holds where no order is given.
    """

    def __init__(
        self, exchange: Exchange, encoder: Encoder, memory: Memory, settings: Settings
    ) -> None:
        self._exchange = exchange
        self._encoder = encoder
        self._memory = memory
        self._settings = settings

    def response_id(self, body: bytes) -> str:
        """Return an id that the same requests in the same order get again."""
        digest = hashlib.sha256(b"%d:" % self._exchange.entry.number + body).digest()
        return base64.urlsafe_b64encode(digest[:17]).decode().rstrip("=")

    async def refuse(self, error: ApiError) -> None:
        """Send an error instead of an answer."""
        body = self._encoder.refusal(error.body())
        await self._exchange.reply(error.code, body, self._encoder.stream_headers, "refused")

    async def is_spoilt(self, behaviour: Behaviour, model: str) -> bool:
        """Wait as ordered, then hang up or refuse if ordered; tell whether that ended it."""
        if behaviour.delay:
            await asyncio.sleep(behaviour.delay)
        if behaviour.hang_up:
            await self._exchange.cut()
            return True
        if not behaviour.refuses:
            return False
        error = make_error(
            name=behaviour.error,
            code=behaviour.status,
            message=behaviour.status_message,
            model=model,
            retry_delay_seconds=behaviour.retry_delay,
        )
        await self.refuse(error)
        return True

    async def send_answer(
        self, answer: Answer, behaviour: Behaviour, late_error: ApiError | None
    ) -> None:
        """Produce the answer and send it, as a stream or whole."""
        per_chunk = behaviour.chunk or self._settings.simulator_tokens_per_chunk
        steps = stream_steps(answer, behaviour, per_chunk)
        if not self._encoder.streams:
            await self._produce(steps, behaviour)
            if late_error is not None:
                await self.refuse(late_error)
            else:
                await self.send_whole(whole_response(answer, behaviour), behaviour)
            return
        self._memory.recorder.open_streams += 1
        try:
            await self._exchange.start(200, self._encoder.stream_headers)
            await self._stream(steps, behaviour, late_error)
        finally:
            self._memory.recorder.open_streams -= 1

    async def send_whole(self, body: dict[str, Any], behaviour: Behaviour) -> None:
        """Send a response in one piece, or half of it if a cut is ordered."""
        content = self._encoder.whole(body)
        self._exchange.entry.usage = body.get("usageMetadata")
        if behaviour.cut_after is None:
            await self._exchange.reply(200, content)
            return
        length = (b"content-length", str(len(content)).encode())
        await self._exchange.start(200, [*JSON_HEADERS, length])
        await self._exchange.write(content[: len(content) // 2])
        await self._exchange.cut()

    async def _produce(self, steps: Iterator[Step], behaviour: Behaviour) -> None:
        """Take the time that producing the answer takes."""
        pacer = _Pacer(self._memory, behaviour, self._settings)
        for number, step in enumerate(steps):
            if step.units:
                await pacer.wait(step.units)
                self._exchange.entry.tokens += step.units
            if number % _CHUNKS_PER_TURN == _CHUNKS_PER_TURN - 1:
                await asyncio.sleep(0)

    async def _stream(
        self, steps: Iterator[Step], behaviour: Behaviour, late_error: ApiError | None
    ) -> None:
        exchange, encoder = self._exchange, self._encoder
        pacer = _Pacer(self._memory, behaviour, self._settings)
        for number, step in enumerate(steps):
            if step.units:
                if await self._is_broken(behaviour, late_error):
                    return
                await pacer.wait(step.units)
            exchange.entry.usage = step.chunk.get("usageMetadata", exchange.entry.usage)
            await exchange.write(encoder.chunk(step.chunk), behaviour.split_bytes)
            if step.units:
                exchange.entry.tokens += step.units
                self._memory.recorder.changes.announce()
            if number % _CHUNKS_PER_TURN == _CHUNKS_PER_TURN - 1:
                await asyncio.sleep(0)
        if not await self._is_broken(behaviour, late_error):
            await exchange.finish(encoder.end())

    async def _is_broken(self, behaviour: Behaviour, late_error: ApiError | None) -> bool:
        """Break the stream off if that is ordered here; tell whether it was."""
        sent = self._exchange.entry.tokens
        if behaviour.garbage_after is not None and sent >= behaviour.garbage_after:
            await self._exchange.finish(self._encoder.garbage())
            return True
        if late_error is not None and sent >= (behaviour.error_after or 0):
            as_event = behaviour.error_form == "data"
            error = self._encoder.late_error(late_error.body(), as_event=as_event)
            await self._exchange.finish(error + self._encoder.end())
            return True
        if behaviour.cut_after is not None and sent >= behaviour.cut_after:
            await self._exchange.cut()
            return True
        return False


class _Pacer:
    """Decides when the next token is there: first delay, gate, pace."""

    def __init__(self, memory: Memory, behaviour: Behaviour, settings: Settings) -> None:
        self._pace = settings.simulator_tokens_per_second
        if behaviour.pace is not None:
            self._pace = behaviour.pace
        self._first_delay_seconds = settings.simulator_first_token_delay_seconds
        if behaviour.first_token_delay is not None:
            self._first_delay_seconds = behaviour.first_token_delay
        self._free_units = behaviour.stall_after or 0
        is_gated = behaviour.gate is not None or behaviour.stall_after is not None
        self._gate = memory.gate(behaviour.gate or _ENDLESS_GATE) if is_gated else None
        self._units = 0
        self._start_seconds: float | None = None

    async def wait(self, units: int) -> None:
        """Wait until so many more tokens are there."""
        if self._gate is not None and self._units + units > self._free_units:
            await self._gate.pass_through(units)
        self._units += units
        if self._start_seconds is None:
            if self._first_delay_seconds:
                await asyncio.sleep(self._first_delay_seconds)
            self._start_seconds = asyncio.get_running_loop().time()
            self._units = units
            return
        if self._pace:
            due = self._start_seconds + (self._units - 1) / self._pace
            delay_seconds = due - asyncio.get_running_loop().time()
            if delay_seconds > 0:
                await asyncio.sleep(delay_seconds)
