"""Sending at the client's pace: together, with pings, and not for ever."""

import asyncio

import pytest
from starlette.types import Message

from ai_proxy_service.api import event_stream
from ai_proxy_service.api.event_stream import PING, EventSender


class Client:
    """Takes what is sent when it is let."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.reading = asyncio.Event()
        self.waiting = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.waiting.set()
        await self.reading.wait()
        self.messages.append(message)


async def test_what_gathered_while_the_client_was_slow_is_sent_together() -> None:
    client = Client()
    sender = EventSender(client.send)
    running = asyncio.create_task(sender.run())
    await sender.put(b"1")
    await client.waiting.wait()

    await sender.put(b"2")
    await sender.put(b"3")
    sender.close()
    client.reading.set()
    await running

    assert [(message["body"], message["more_body"]) for message in client.messages] == [
        (b"1", True),
        (b"23", False),
    ]


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "PING_SECONDS", 0)
    client = Client()
    sender = EventSender(client.send)
    running = asyncio.create_task(sender.run())
    await client.waiting.wait()

    monkeypatch.setattr(event_stream, "PING_SECONDS", 60)
    await sender.put(b"data: 1\n\n")
    sender.close()
    client.reading.set()
    await running

    sent = b"".join(message["body"] for message in client.messages)
    assert sent.startswith(PING)
    assert sent.endswith(b"data: 1\n\n")


async def test_a_client_that_stops_reading_is_taken_for_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_stream, "SEND_SECONDS_MAX", 0.01)
    sender = EventSender(Client().send)
    await sender.put(b"1")

    with pytest.raises(TimeoutError):
        await sender.run()


async def test_reading_runs_ahead_of_the_client_only_so_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_stream, "UNSENT_BYTES_MAX", 10)
    client = Client()
    sender = EventSender(client.send)
    await sender.put(b"x" * 11)

    ahead = asyncio.create_task(sender.put(b"y"))
    await asyncio.sleep(0)
    assert not ahead.done()
    running = asyncio.create_task(sender.run())
    client.reading.set()
    await ahead

    sender.close()
    await running
    assert b"".join(message["body"] for message in client.messages) == b"x" * 11 + b"y"
