"""Which addresses a URL of a client's may lead to, and how aiohttp is held to them.

A client must not reach through this service what it could not reach itself: the operator's
own network, the cloud's metadata service, the machine's own ports. What is checked is the
address that is connected to, not the name, so a name that changes its mind gains nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from ai_proxy_service.services.daemon_threads import DaemonThreadExecutor, NoThreadFreeError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
AddrInfo = tuple[int, int, int, str, tuple[str | int, ...]]
LookUp = Callable[[str], Awaitable[Sequence[str]]]

LOOK_UP_THREADS = 32
# https://www.iana.org/assignments/ipv6-address-space: nothing else is global unicast.
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_TRANSLATED_V4 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
# Global by Python's tables, but not places where public files are: protocol assignments,
# where a cloud has its metadata service; Azure's host agent; addresses for documentation.
_NEVER = tuple(
    map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20"))
)


class AddressRefusedError(OSError):
    """An address is neither public nor in a network that the operator allows."""


class AddressRules:
    """What may be connected to.

    Args:
        allowed_networks: networks that are allowed though they are not public.
    """

    def __init__(self, allowed_networks: Iterable[str]) -> None:
        self._allowed = [ipaddress.ip_network(network) for network in allowed_networks]

    def permit(self, address: str) -> bool:
        """Return whether an address may be connected to; anything that is none may not."""
        try:
            parsed: Address = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        if any(parsed in network for network in self._allowed):
            return True
        return all(_is_public(each) for each in (parsed, *_embedded(parsed)))


def _is_public(address: Address) -> bool:
    if any(address in network for network in _NEVER):
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return address.is_global and (address in _GLOBAL_V6 or address in _TRANSLATED_V4)
    return address.is_global and not address.is_multicast


def _embedded(address: Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 address that a gateway would take out of an IPv6 one."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    if address.sixtofour is not None:
        return [address.sixtofour]
    if address in _TRANSLATED_V4:
        return [ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)]
    return []


class SystemLookUp:
    """Asks the system for a name's addresses.

    In threads of its own: names whose servers don't answer hold theirs for many seconds, and
    nobody else's work may wait behind them.
    """

    def __init__(self) -> None:
        self._threads = DaemonThreadExecutor(LOOK_UP_THREADS, "media-look-up")

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
