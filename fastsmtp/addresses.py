"""IP addresses: their canonical form, and what counts as one client.

Everywhere else an address is canonical text, so that equal text means the same address.
"""

import socket
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address


def canonical(address: IPv4Address | IPv6Address) -> str:
    """The canonical text; an IPv4-mapped IPv6 address is written as IPv4."""
    return str(getattr(address, "ipv4_mapped", None) or address)


@lru_cache(maxsize=4096)
def plain_address(text: str) -> str:
    """The canonical text of a socket's address; scope ids are dropped.

    Raises ValueError for anything else.
    """
    return canonical(ip_address(text.partition("%")[0]))


def packed(address: str) -> bytes:
    """The 4 or 16 bytes of a canonical address."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def client_network(address: str) -> bytes:
    """What counts as one client of a canonical address: an IPv4 address, an IPv6 /64."""
    return packed(address)[:8]
