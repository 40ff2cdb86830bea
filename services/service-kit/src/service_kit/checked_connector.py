"""How aiohttp is held to the addresses that may be connected to.

What is checked is the address that is connected to, not the name, so a name that changes its
mind gains nothing.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from service_kit.daemon_threads import DaemonThreadExecutor, NoThreadFreeError
from service_kit.public_addresses import AddressRefusedError, AddressRules

AddrInfo = tuple[int, int, int, str, tuple[str | int, ...]]
LookUp = Callable[[str], Awaitable[Sequence[str]]]

LOOK_UP_THREADS = 32


class SystemLookUp:
    """Asks the system for a name's addresses.

    In threads of its own: names whose servers don't answer hold theirs for many seconds, and
    nobody else's work may wait behind them.
    """

    def __init__(self) -> None:
        self._threads = DaemonThreadExecutor(LOOK_UP_THREADS, "name-look-up")

    async def __call__(self, host: str) -> Sequence[str]:
        """Return all addresses of a name; none if it has none or can't be asked for."""
        loop = asyncio.get_running_loop()
        try:
            answer = loop.run_in_executor(self._threads, _system_addresses, host)
        except NoThreadFreeError:
            return ()
        # A thread can't be stopped: who gives up leaves it to end by itself.
        return await asyncio.shield(answer)


def _system_addresses(host: str) -> Sequence[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: a label that no name can have
        return ()
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class CheckedResolver(AbstractResolver):
    """Gives aiohttp the addresses of a name if it may connect to every one of them."""

    def __init__(self, rules: AddressRules, look_up: LookUp) -> None:
        self._rules = rules
        self._look_up = look_up

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses; aiohttp asks for them once a connection.

        Raises:
            AddressRefusedError: one of them may not be connected to.
            OSError: there are none.
        """
        addresses = await self._look_up(host)
        if not addresses:
            raise OSError(None, "the name has no address")
        if not all(self._rules.permit(address) for address in addresses):
            raise AddressRefusedError
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def checked_connector(rules: AddressRules, look_up: LookUp) -> aiohttp.TCPConnector:
    """Make a connector that can't connect to what the rules don't permit."""

    def open_socket(info: AddrInfo) -> socket.socket:
        # Addresses that stand in the URL itself never come by a resolver.
        family, kind, protocol, _, sockaddr = info
        if not rules.permit(str(sockaddr[0])):
            raise AddressRefusedError
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(
        resolver=CheckedResolver(rules, look_up),
        # Each connection is checked anew, also one to the server of a moment ago.
        use_dns_cache=False,
        force_close=True,
        limit=0,
        socket_factory=open_socket,
    )
