"""Files by URL, over real sockets: what may be fetched, what may not, and what is said of it."""

import asyncio
import base64
import gzip
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy_service.core.errors import MediaFetchError
from ai_proxy_service.core.interfaces import Media
from ai_proxy_service.services import media_fetcher
from ai_proxy_service.services.media_fetcher import HttpMediaFetcher
from ai_proxy_service.services.media_types import sniff_mime_type
from service_kit.checked_connector import SystemLookUp
from service_kit.public_addresses import AddressRules

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
HOME = ("127.0.0.1/32",)
NOT_PUBLIC = "it leads to an address that is not public"
UNKNOWN_TYPE = "the file is not an image, document, audio or video of a known type"

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def ok(content: bytes, *, declared: str = "image/png", headers: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {declared}\r\n{headers}"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


def redirect(target: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Go\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n".encode()


class WebServer:
    """Answers each path as it is told to, and remembers what it was asked.

    Attributes:
        requests: the heads of the requests that came.
        answers: a path's answer: bytes, or what is to be done with the connection.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.answers: dict[str, bytes | Answer] = {}
        self.port = 0
        self.left = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None

    async def start(self, host: str) -> None:
        self._server = await asyncio.start_server(self._serve, host, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        await asyncio.gather(*self._tasks)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    @property
    def paths(self) -> list[str]:
        return [request.split(" ")[1] for request in self.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            answer = self.answers[head.split(" ")[1]]
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side may leave at any time
        finally:
            self.left.set()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def web_server(host: str = "127.0.0.1") -> AsyncIterator[WebServer]:
    server = WebServer()
    await server.start(host)
    yield server
    await server.stop()


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    async with web_server() as server:
        yield server


@asynccontextmanager
async def fetching(
    *,
    max_bytes: int = 1_000_000,
    timeout_seconds: float = 60,
    allowed_networks: Sequence[str] = HOME,
    names: Callable[[str], Sequence[str]] | None = None,
) -> AsyncIterator[HttpMediaFetcher]:
    async def look_up(host: str) -> Sequence[str]:
        assert names is not None, f"{host} was looked up"
        return names(host)

    fetcher = HttpMediaFetcher(
        max_bytes=max_bytes,
        timeout_seconds=timeout_seconds,
        allowed_networks=allowed_networks,
        look_up=look_up,
    )
    try:
        yield fetcher
    finally:
        await fetcher.aclose()


async def refusal(fetcher: HttpMediaFetcher, url: str) -> str:
    """Fetch a URL that can't be had and return why."""
    with pytest.raises(MediaFetchError) as caught:
        await fetcher.fetch([url], "ann")
    assert caught.value.url == url
    assert (caught.value.status, caught.value.code) == (400, "invalid_image_url")
    message = str(caught.value)
    assert message.startswith("The URL could not be fetched: ")
    assert message.endswith(".")
    return message.removeprefix("The URL could not be fetched: ")[:-1]


async def test_a_file_is_fetched_and_known_by_its_content(web: WebServer) -> None:
    web.answers["/a"] = ok(PNG, declared="application/octet-stream")

    async with fetching() as fetcher:
        files = await fetcher.fetch([web.url("/a")], "ann")

    assert files == {
        web.url("/a"): Media("image/png", base64.b64encode(PNG).decode(), len(PNG)),
    }


async def test_a_large_file_arrives_whole(web: WebServer) -> None:
    content = PNG + bytes(range(256)) * 3001
    web.answers["/"] = ok(content)

    async with fetching(max_bytes=len(content)) as fetcher:
        (media,) = (await fetcher.fetch([web.url()], "ann")).values()

    assert base64.b64decode(media.data) == content
    assert media.content_bytes == len(content)


async def test_the_request_gives_nothing_away(web: WebServer) -> None:
    web.answers["/one"] = ok(PNG, headers="set-cookie: who=me\r\n")
    web.answers["/two?token=a%2Fb+c"] = ok(PNG)

    async with fetching() as fetcher:
        await fetcher.fetch([web.url("/one")], "ann")
        await fetcher.fetch([web.url("/two?token=a%2Fb+c#part")], "ann")

    assert web.paths == ["/one", "/two?token=a%2Fb+c"]
    for request in web.requests:
        names = {line.partition(":")[0].lower() for line in request.splitlines()[1:] if line}
        assert names <= {"host", "accept", "accept-encoding", "user-agent", "connection"}


async def test_files_are_fetched_side_by_side_and_each_once(web: WebServer) -> None:
    everyone_is_here = asyncio.Barrier(16)

    async def wait_for_all(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await everyone_is_here.wait()
        writer.write(ok(PNG))

    urls = [web.url(f"/{number}") for number in range(16)]
    web.answers = {f"/{number}": wait_for_all for number in range(16)}

    async with fetching() as fetcher:
        files = await fetcher.fetch([*urls, *urls], "ann")

    assert list(files) == urls
    assert len(web.requests) == 16


async def test_no_more_than_sixteen_files_are_fetched_for_a_request(web: WebServer) -> None:
    urls = [web.url(f"/{number}") for number in range(17)]

    async with fetching() as fetcher:
        with pytest.raises(MediaFetchError, match="at most 16 files") as caught:
            await fetcher.fetch(urls, "ann")

    assert caught.value.url == urls[16]
    assert web.requests == []


async def test_only_so_many_are_fetched_at_a_time(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_fetcher, "FETCHES_MAX", 2)
    at_once: list[int] = []
    open_now = 0

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        open_now += 1
        at_once.append(open_now)
        await asyncio.sleep(0)
        open_now -= 1
        writer.write(ok(PNG))

    web.answers = {f"/{number}": count for number in range(10)}

    async with fetching() as fetcher:
        await fetcher.fetch([web.url(f"/{number}") for number in range(10)], "ann")

    assert len(at_once) == 10
    assert max(at_once) <= 2


async def test_one_account_keeps_no_other_waiting(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its servers may be as slow as it likes: it has asked before anybody knows whether it pays."""
    monkeypatch.setattr(media_fetcher, "FETCHES_MAX", 3)
    monkeypatch.setattr(media_fetcher, "FETCHES_OF_OWNER_MAX", 2)
    arrived, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def keep_waiting(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.release()
        await go_on.wait()
        writer.write(ok(PNG))

    slow = [f"/slow{number}" for number in range(5)]
    web.answers = {"/quick": ok(PNG), **dict.fromkeys(slow, keep_waiting)}

    async with fetching() as fetcher:
        fetches = [asyncio.create_task(fetcher.fetch([web.url(path)], "ann")) for path in slow]
        for _ in range(2):
            await arrived.acquire()
        assert await fetcher.fetch([web.url("/quick")], "bob")
        assert not any(fetch.done() for fetch in fetches)
        go_on.set()
        await asyncio.gather(*fetches)

    assert sorted(web.paths) == ["/quick", *slow]


async def test_redirects_are_followed_three_times(web: WebServer) -> None:
    web.answers = {
        "/0": redirect("1", 301),
        "/1": redirect(web.url("/2"), 303),
        "/2": redirect("//127.0.0.1:" + f"{web.port}/3?x=1", 307),
        "/3?x=1": ok(PNG),
        "/more": redirect("/0", 308),
    }

    async with fetching() as fetcher:
        files = await fetcher.fetch([web.url("/0")], "ann")
        assert files[web.url("/0")].mime_type == "image/png"
        assert await refusal(fetcher, web.url("/more")) == "it redirects more than 3 times"

    assert web.paths == ["/0", "/1", "/2", "/3?x=1", "/more", "/0", "/1", "/2"]


@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
async def test_a_redirect_to_an_address_that_is_refused_makes_no_request_there(
    web: WebServer, host: str
) -> None:
    async with web_server(host) as inside, fetching() as fetcher:
        inside.answers["/"] = ok(PNG)
        name = f"[{host}]" if ":" in host else host
        web.answers["/"] = redirect(inside.url(host=name))

        assert await refusal(fetcher, web.url()) == NOT_PUBLIC

        assert inside.requests == []
        assert not inside._tasks, "not even a connection"
    assert web.paths == ["/"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("file:///etc/passwd", "it is not an http:// or https:// URL"),
        ("ftp://127.0.0.1/", "it is not an http:// or https:// URL"),
        ("http://user:secret@127.0.0.1/", "it has a user name or a password in it"),
        ("http://127.0.0.1:99999/", "it is not a valid URL"),
        ("http://2130706433/", "it is not a valid URL"),
    ],
)
async def test_where_a_redirect_leads_is_checked_as_the_url_itself(
    web: WebServer, target: str, reason: str
) -> None:
    web.answers["/"] = redirect(target)

    async with fetching() as fetcher:
        assert await refusal(fetcher, web.url()) == reason


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.2",
        "0.0.0.0",  # noqa: S104 - it leads to this machine
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.0.192",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fe80::1%25lo]",
        "[fd00:ec2::254]",
        "[fec0::1]",
        "[ff02::1]",
        "[4000::1]",
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
    ],
)
async def test_an_address_that_is_not_public_is_refused_however_it_is_written(host: str) -> None:
    async with fetching(allowed_networks=()) as fetcher:
        assert await refusal(fetcher, f"http://{host}/") == NOT_PUBLIC


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "017700000001", "127.1", "127.0.0.1."],
)
async def test_numbers_that_only_the_system_reads_as_addresses_reach_nothing(
    web: WebServer, host: str
) -> None:
    fetcher = HttpMediaFetcher(max_bytes=1000, timeout_seconds=60)

    reason = await refusal(fetcher, web.url(host=host))

    assert reason in {"it is not a valid URL", NOT_PUBLIC}
    assert web.requests == []
    await fetcher.aclose()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "it is not an http:// or https:// URL"),
        ("cat.png", "it is not an http:// or https:// URL"),
        ("gs://bucket/cat.png", "it is not an http:// or https:// URL"),
        ("http://", "it is not an http:// or https:// URL"),
        ("http:///cat.png", "it is not an http:// or https:// URL"),
        ("http://[::1", "it is not a valid URL"),
        ("http://me@example.com/", "it has a user name or a password in it"),
        ("http://:secret@example.com/", "it has a user name or a password in it"),
        ("http://example.com/" + "x" * 8192, "it is longer than 8192 characters"),
    ],
)
async def test_what_is_no_url_of_a_public_file_is_refused(url: str, reason: str) -> None:
    async with fetching() as fetcher:
        assert await refusal(fetcher, url) == reason


@given(
    st.sampled_from(["", "http://", "https://", "http://h", "http://[", "//"]),
    st.text(st.characters(), max_size=30) | st.text("hx0.:/@[]%?#\\\r\n 1", max_size=30),
)
async def test_any_text_is_a_url_that_reaches_nothing_or_none(prefix: str, text: str) -> None:
    async with fetching(allowed_networks=(), names=lambda _: []) as fetcher:
        assert await refusal(fetcher, prefix + text)


async def test_a_name_is_looked_up_once_and_its_checked_address_used(web: WebServer) -> None:
    web.answers["/"] = ok(PNG)
    answers = iter([["127.0.0.1"], ["::1"]])

    async with fetching(names=lambda _: next(answers)) as fetcher:
        files = await fetcher.fetch([web.url(host="rebinding.example")], "ann")
        assert len(files) == 1
        assert await refusal(fetcher, web.url(host="rebinding.example")) == NOT_PUBLIC

    assert len(web.requests) == 1
    assert f"host: rebinding.example:{web.port}" in web.requests[0].lower()


async def test_a_name_that_turns_inwards_on_a_redirect_is_refused(web: WebServer) -> None:
    web.answers["/"] = redirect("/again")
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])

    async with fetching(names=lambda _: next(answers)) as fetcher:
        assert await refusal(fetcher, web.url(host="rebinding.example")) == NOT_PUBLIC

    assert web.paths == ["/"]


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1", "10.0.0.1"], ["127.0.0.1", "::1"], ["127.0.0.1", "fe80::1%lo"], ["nonsense"]],
)
async def test_one_bad_address_among_a_names_spoils_it(
    web: WebServer, addresses: list[str]
) -> None:
    async with fetching(names=lambda _: addresses) as fetcher:
        assert await refusal(fetcher, web.url(host="mixed.example")) == NOT_PUBLIC

    assert web.requests == []


async def test_a_name_without_an_address_is_said_to_have_none(web: WebServer) -> None:
    async with fetching(names=lambda _: []) as fetcher:
        reason = await refusal(fetcher, web.url(host="nobody.example"))

    assert reason == "its host name could not be resolved"


async def test_the_system_is_asked_for_names() -> None:
    look_up = SystemLookUp()

    assert "127.0.0.1" in await look_up("127.0.0.1")
    assert await look_up("x" * 64 + ".example") == ()


async def test_names_that_take_forever_leave_the_others_their_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service_kit.checked_connector.LOOK_UP_THREADS", 0)

    assert await SystemLookUp()("name.example") == ()


ADDRESSES_V4 = st.ip_addresses(v=4)


@given(ADDRESSES_V4)
def test_an_address_within_another_is_judged_by_itself(address: ipaddress.IPv4Address) -> None:
    rules = AddressRules(())
    number = int(address)
    mapped = ipaddress.IPv6Address(0xFFFF << 32 | number)
    translated = ipaddress.IPv6Address(0x64FF9B << 96 | number)
    tunnelled = ipaddress.IPv6Address(0x2002 << 112 | number << 80)

    public = rules.permit(str(address))

    assert rules.permit(str(mapped)) == public
    assert rules.permit(str(translated)) == public
    assert rules.permit(str(tunnelled)) == public
    assert not public or address.is_global


def test_public_addresses_are_permitted() -> None:
    rules = AddressRules(())

    assert rules.permit("8.8.8.8")
    assert rules.permit("2606:4700::1111")
    assert AddressRules(["fd00::/8"]).permit("fd00::1")
    assert AddressRules(["10.0.0.0/8"]).permit("::ffff:10.0.0.1")
    assert not AddressRules(["10.0.0.0/8"]).permit("11.0.0.1.")


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 404, 500])
async def test_another_status_than_200_is_told(web: WebServer, status: int) -> None:
    web.answers["/"] = f"HTTP/1.1 {status} Oh\r\ncontent-length: 0\r\n\r\n".encode()

    async with fetching() as fetcher:
        assert await refusal(fetcher, web.url()) == f"its server answered with status {status}"


async def test_a_redirect_to_nowhere_is_a_status(web: WebServer) -> None:
    web.answers["/"] = b"HTTP/1.1 302 Go\r\ncontent-length: 0\r\n\r\n"

    async with fetching() as fetcher:
        assert await refusal(fetcher, web.url()) == "its server answered with status 302"


async def test_a_size_that_is_too_large_is_refused_when_it_is_announced(web: WebServer) -> None:
    async def announce(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n")
        await reader.read()

    web.answers["/"] = announce

    async with fetching(max_bytes=1000) as fetcher:
        assert await refusal(fetcher, web.url()) == "the file is larger than 1000 bytes"
    await web.left.wait()


async def _endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + PNG)
    while True:
        writer.write(bytes(65536))
        await writer.drain()


async def test_a_file_without_an_end_is_cut_off_at_the_limit(web: WebServer) -> None:
    web.answers["/"] = _endless

    async with fetching(max_bytes=200_000) as fetcher:
        assert await refusal(fetcher, web.url()) == "the file is larger than 200000 bytes"
    await web.left.wait()


async def test_what_unpacks_to_more_than_the_limit_is_cut_off_there(web: WebServer) -> None:
    bomb = gzip.compress(PNG + bytes(50_000_000))
    assert len(bomb) < 100_000
    web.answers["/"] = ok(bomb, headers="content-encoding: gzip\r\n")

    async with fetching(max_bytes=100_000) as fetcher:
        assert await refusal(fetcher, web.url()) == "the file is larger than 100000 bytes"


async def test_others_have_their_turn_while_a_file_is_unpacked(web: WebServer) -> None:
    bomb = gzip.compress(PNG + bytes(20_000_000))
    web.answers["/"] = ok(bomb, headers="content-encoding: gzip\r\n")
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with fetching(max_bytes=10_000_000) as fetcher:
        others = asyncio.create_task(take_turns())
        await refusal(fetcher, web.url())
        others.cancel()

    assert turns > 20


async def test_a_packed_file_is_unpacked(web: WebServer) -> None:
    web.answers["/"] = ok(gzip.compress(PNG), headers="content-encoding: gzip\r\n")

    async with fetching() as fetcher:
        (media,) = (await fetcher.fetch([web.url()], "ann")).values()

    assert base64.b64decode(media.data) == PNG


async def test_the_files_of_a_request_have_a_limit_together(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_fetcher, "REQUEST_BYTES_MAX", 2 * len(PNG))
    web.answers = {f"/{number}": ok(PNG) for number in range(3)}
    urls = [web.url(f"/{number}") for number in range(3)]

    async with fetching() as fetcher:
        assert len(await fetcher.fetch(urls[:2], "ann")) == 2
        with pytest.raises(MediaFetchError, match="larger than 28 bytes together"):
            await fetcher.fetch(urls, "ann")


async def _silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def _trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + PNG)
    await reader.read()


@pytest.mark.parametrize("answer", [_silent, _trickle])
async def test_a_server_that_is_too_slow_is_given_up(web: WebServer, answer: Answer) -> None:
    web.answers["/"] = answer

    async with fetching(timeout_seconds=0.2) as fetcher:
        assert await refusal(fetcher, web.url()) == "it took longer than 0.2 seconds"
    await web.left.wait()


async def test_redirects_share_the_time(web: WebServer) -> None:
    web.answers = {"/": redirect("/slow"), "/slow": _silent}

    async with fetching(timeout_seconds=0.2) as fetcher:
        assert await refusal(fetcher, web.url()) == "it took longer than 0.2 seconds"


async def test_who_gives_up_leaves_no_connection_behind(web: WebServer) -> None:
    asked = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()

    web.answers["/"] = hang

    async with fetching() as fetcher:
        fetch = asyncio.create_task(fetcher.fetch([web.url()], "ann"))
        await asked.wait()
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        await web.left.wait()


async def test_one_failure_ends_the_other_fetches(web: WebServer) -> None:
    asked = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()

    async def fail(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked.wait()
        web.left.clear()
        writer.write(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n")

    web.answers = {"/hang": hang, "/fail": fail}

    async with fetching() as fetcher:
        with pytest.raises(MediaFetchError) as caught:
            await fetcher.fetch([web.url("/hang"), web.url("/fail")], "ann")

    assert caught.value.url == web.url("/fail")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + PNG,
        ok(b"not packed", headers="content-encoding: gzip\r\n"),
        ok(PNG, headers="x: " + "y" * 20_000 + "\r\n"),
    ],
)
async def test_an_answer_that_is_broken_is_told_as_such(web: WebServer, answer: bytes) -> None:
    web.answers["/"] = answer

    async with fetching() as fetcher:
        assert await refusal(fetcher, web.url()) == "its server gave no complete answer"


async def test_a_server_that_is_not_there_is_told_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    async with fetching() as fetcher:
        reason = await refusal(fetcher, f"http://127.0.0.1:{port}/")

    assert reason == "its server could not be reached"


async def test_a_server_that_has_no_certificate_is_not_trusted() -> None:
    async def answer_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(ok(PNG))
        writer.close()

    server = await asyncio.start_server(answer_plainly, "127.0.0.1", 0)
    async with server, fetching() as fetcher:
        port = server.sockets[0].getsockname()[1]
        reason = await refusal(fetcher, f"https://127.0.0.1:{port}/")

    assert reason == "no secure connection to its server could be made"


@pytest.mark.parametrize(
    ("content", "declared"),
    [
        (b"<html>Please log in</html>", "image/png"),
        (b'{"error": "no"}', "application/json"),
        (b"\xff\xfe\x00\x01", "text/plain"),
        (b"a\0b", "text/plain"),
        (b"", "image/png"),
        (b"", "text/plain"),
        (b"MZ\x90\0\x03\0", "application/pdf"),
        (b"PK\x03\x04", "application/zip"),
    ],
)
async def test_a_file_of_another_kind_is_refused_whatever_its_server_says(
    web: WebServer, content: bytes, declared: str
) -> None:
    web.answers["/"] = ok(content, declared=declared)

    async with fetching() as fetcher:
        assert await refusal(fetcher, web.url()) == UNKNOWN_TYPE


async def test_a_refusal_is_logged_without_what_may_be_secret() -> None:
    async with fetching(names=lambda _: ["10.20.30.40"]) as fetcher:
        with structlog.testing.capture_logs() as entries:
            await refusal(fetcher, "http://files.example/secret/path?token=secret")

    (entry,) = entries
    assert (entry["event"], entry["host"]) == ("media_refused", "files.example")
    assert entry["reason"] == NOT_PUBLIC
    assert "secret" not in str(entry)
    assert "10.20.30.40" not in str(entry)


@pytest.mark.parametrize(
    ("head", "mime_type"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"GIF87a", "image/gif"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
        (b"RIFF\x24\0\0\0AVI LIST", "video/avi"),
        (b"FORM\0\0\0\x24AIFFCOMM", "audio/aiff"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", "image/heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf", "image/heif"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "image/avif"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "image/avif"),
        (b"BM" + bytes(12) + b"\x28\0\0\0", "image/bmp"),
        (b"%PDF-1.7\n", "application/pdf"),
        (b"ID3\x04\0\0", "audio/mp3"),
        (b"\xff\xfb\x90\x64", "audio/mp3"),
        (b"\xff\xf3\x84\xc4", "audio/mp3"),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"\xff\xf9\x50\x80", "audio/aac"),
        (b"OggS\0\x02", "audio/ogg"),
        (b"fLaC\0\0\0\x22", "audio/flac"),
        (b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41", "video/mp4"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video/mp4"),
        (b"\0\0\0\x1cftypM4A \0\0\0\0M4A mp42isom", "audio/mp4"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "video/mov"),
        (b"\0\0\0\x6cmoov", "video/mov"),
        (b"\0\0\0\x18ftyp3gp4\0\0\0\0isom3gp4", "video/3gpp"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", "video/webm"),
        (b"\0\0\x01\xba\x44\0", "video/mpeg"),
        (b"\0\0\x01\xb3\x16\0", "video/mpeg"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x88matroska", None),
        (b"\0\0\0\x14ftypjp2 \0\0\0\0jp2 ", None),
        (b"BMW is a brand of cars", None),
        (b"\xff\xfb\xf0\x64", None),
        (b"\xff", None),
        (b"RIFF", None),
    ],
)
def test_each_format_is_known_by_its_first_bytes(head: bytes, mime_type: str | None) -> None:
    assert sniff_mime_type(head, "application/octet-stream") == mime_type


@pytest.mark.parametrize("declared", ["text/plain", "text/html", "TEXT/CSV"])
def test_a_text_is_what_its_server_says_it_is_as_long_as_it_reads_as_one(declared: str) -> None:
    assert sniff_mime_type("Grüße, 世界".encode(), declared) == "text/plain"
    assert sniff_mime_type("Grüße".encode("latin-1"), declared) is None


@given(st.binary(max_size=200), st.sampled_from(["", "text/plain", "image/png"]))
def test_any_bytes_are_some_format_or_none(content: bytes, declared: str) -> None:
    found = sniff_mime_type(bytearray(content), declared)

    assert found is None or "/" in found
