"""Which addresses may be connected to where others choose the URL.

Nobody must reach through a service what they could not reach themselves: the operator's own
network, the cloud's metadata service, the machine's own ports.
"""

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

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
