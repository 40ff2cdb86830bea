"""Files that messages name by URL, fetched for Gemini.

The URLs are the clients', and so is all that their servers answer: addresses, sizes, times and
types are checked, and what is said about a failure tells nothing of the operator's network.
"""

import asyncio
import binascii
import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from http import HTTPStatus
from weakref import WeakValueDictionary

import aiohttp
from yarl import URL

from ai_proxy_service.core.errors import MediaFetchError
from ai_proxy_service.core.interfaces import Media
from ai_proxy_service.services.media_types import sniff_mime_type
from service_kit.checked_connector import LookUp, SystemLookUp, checked_connector
from service_kit.logging import get_logger
from service_kit.public_addresses import AddressRefusedError, AddressRules
from service_kit.request_id import current_request_id

_log = get_logger(__name__)

URLS_MAX = 16
URL_CHARACTERS_MAX = 8192
REDIRECTS_MAX = 3
FETCHES_MAX = 32
# Files are fetched before it is known who can pay: one account must not keep the others waiting.
# It is enough for all of a request's files side by side.
FETCHES_OF_OWNER_MAX = URLS_MAX
# The most that Gemini takes within one request.
REQUEST_BYTES_MAX = 100 * 1024 * 1024
_HOST_CHARACTERS_LOGGED = 253
THREAD_FROM_BYTES = 64 * 1024
# A multiple of three, so that the pieces' base64 is the whole's.
_ENCODE_BYTES = 48 * 1024
# All that a URL can consist of (RFC 3986). One that does is sent as it was written: what a
# signature in it covers must not be spelt another way.
_WRITTEN_OUT = re.compile(r"[\w\-.~:/?#\[\]@!$&'()*+,;=%]*", re.ASCII)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "prepaid-ai-gateway"}


class _RefusedError(Exception):
    """A file can't be had; the text is the second half of a sentence for the client."""


class _Allowance:
    """What the files of one request may weigh together."""

    def __init__(self) -> None:
        self._left_bytes = REQUEST_BYTES_MAX

    def take(self, size_bytes: int) -> None:
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            raise _RefusedError(
                f"the files of the request are larger than {REQUEST_BYTES_MAX} bytes together"
            )


class HttpMediaFetcher:
    """The `MediaFetcher` over HTTP. Must be made where an event loop runs.

    Args:
        max_bytes: the largest file.
        timeout_seconds: the longest that one file may take, redirects included.
        allowed_networks: networks to which URLs may lead though they are not public.
        look_up: returns all addresses of a name; the system's own way if none is given.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        timeout_seconds: float,
        allowed_networks: Iterable[str] = (),
        look_up: LookUp | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds
        self._slots = asyncio.Semaphore(FETCHES_MAX)
        # Kept as long as somebody uses them.
        self._owners: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._session = aiohttp.ClientSession(
            connector=checked_connector(AddressRules(allowed_networks), look_up or SystemLookUp()),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trust_env=False,
        )

    async def fetch(self, urls: Collection[str], owner: str) -> Mapping[str, Media]:
        """See `MediaFetcher`. A URL that is named twice is fetched once."""
        distinct = list(dict.fromkeys(urls))
        if len(distinct) > URLS_MAX:
            raise MediaFetchError(
                distinct[URLS_MAX], f"A request can name at most {URLS_MAX} files by URL."
            )
        allowance = _Allowance()
        turns = self._owners.setdefault(owner, asyncio.Semaphore(FETCHES_OF_OWNER_MAX))
        tasks = [asyncio.create_task(self._fetch(url, allowance, turns)) for url in distinct]
        try:
            return dict(zip(distinct, await asyncio.gather(*tasks), strict=True))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, url: str, allowance: _Allowance, turns: asyncio.Semaphore) -> Media:
        download = _Download(self._session, self._max_bytes, allowance)
        try:
            async with turns, self._slots:
                try:
                    async with asyncio.timeout(self._timeout_seconds):
                        content, declared = await download.run(url)
                except TimeoutError:
                    raise _RefusedError(
                        f"it took longer than {self._timeout_seconds:g} seconds"
                    ) from None
                if len(content) > THREAD_FROM_BYTES:
                    return await asyncio.to_thread(_media, content, declared)
                return _media(content, declared)
        except _RefusedError as refusal:
            # The host only: the rest of a URL may be a secret.
            _log.warning(
                "media_refused",
                host=download.host[:_HOST_CHARACTERS_LOGGED],
                reason=str(refusal),
                request_id=current_request_id(),
            )
            raise MediaFetchError(url, f"The URL could not be fetched: {refusal}.") from refusal

    async def aclose(self) -> None:
        """See `MediaFetcher`."""
        await self._session.close()


class _Download:
    """One file on its way.

    Attributes:
        host: where it was looked for last.
    """

    def __init__(
        self, session: aiohttp.ClientSession, max_bytes: int, allowance: _Allowance
    ) -> None:
        self._session = session
        self._max_bytes = max_bytes
        self._allowance = allowance
        self.host = ""

    async def run(self, text: str) -> tuple[bytearray, str]:
        """Return the file and what its server said it is."""
        url = self._checked(text)
        for _ in range(REDIRECTS_MAX + 1):
            with _as_refusals():
                async with self._session.get(url, allow_redirects=False) as response:
                    target = response.headers.get("location", "")
                    if response.status not in _REDIRECTS or not target:
                        return await self._read(response), response.content_type
            url = self._checked(target, url)
        raise _RefusedError(f"it redirects more than {REDIRECTS_MAX} times")

    def _checked(self, text: str, base: URL | None = None) -> URL:
        if len(text) > URL_CHARACTERS_MAX:
            raise _RefusedError(f"it is longer than {URL_CHARACTERS_MAX} characters")
        try:
            url = URL(text, encoded=_WRITTEN_OUT.fullmatch(text) is not None)
            if base is not None:
                url = base.join(url)
            self.host = url.host or ""
            has_user = url.user is not None or url.password is not None
        except (ValueError, IndexError):  # IndexError: yarl, of brackets in odd places
            raise _RefusedError("it is not a valid URL") from None
        if url.scheme not in {"http", "https"} or not self.host:
            raise _RefusedError("it is not an http:// or https:// URL")
        if has_user:
            raise _RefusedError("it has a user name or a password in it")
        return url

    async def _read(self, response: aiohttp.ClientResponse) -> bytearray:
        if response.status != HTTPStatus.OK:
            raise _RefusedError(f"its server answered with status {response.status}")
        too_large = _RefusedError(f"the file is larger than {self._max_bytes} bytes")
        if (response.content_length or 0) > self._max_bytes:
            raise too_large
        content = bytearray()
        # What was announced may be a lie, and what is compressed grows.
        async for piece in response.content.iter_any():
            if len(content) + len(piece) > self._max_bytes:
                raise too_large
            self._allowance.take(len(piece))
            content += piece
            # What is unpacked comes without a pause; others want their turn.
            await asyncio.sleep(0)
        return content


@contextlib.contextmanager
def _as_refusals() -> Iterator[None]:
    """Turn the transport's failures into ours; theirs name addresses."""
    try:
        yield
    except aiohttp.InvalidURL:
        raise _RefusedError("it is not a valid URL") from None
    except aiohttp.ClientSSLError:
        raise _RefusedError("no secure connection to its server could be made") from None
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, AddressRefusedError):
            reason = "it leads to an address that is not public"
        elif isinstance(error, aiohttp.ClientConnectorDNSError):
            reason = "its host name could not be resolved"
        else:
            reason = "its server could not be reached"
        raise _RefusedError(reason) from None
    except (aiohttp.ClientError, OSError) as error:
        if isinstance(error, TimeoutError):
            raise
        raise _RefusedError("its server gave no complete answer") from None


def _media(content: bytearray, declared: str) -> Media:
    mime_type = sniff_mime_type(content, declared)
    if mime_type is None:
        raise _RefusedError("the file is not an image, document, audio or video of a known type")
    view = memoryview(content)
    # In pieces: the interpreter runs nothing else while one is encoded.
    data = "".join(
        binascii.b2a_base64(view[start : start + _ENCODE_BYTES], newline=False).decode("ascii")
        for start in range(0, len(content), _ENCODE_BYTES)
    )
    return Media(mime_type=mime_type, data=data, content_bytes=len(content))
