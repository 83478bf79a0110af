"""Who may come in, judged on addresses: `smtp-range`, `smtp-trusted`, `smtp-proxy`, `smtp-xclient`.

Takes canonical addresses (see `addresses`); never waits and never says anything. A lookup
costs the same for ten ranges and for ten thousand.
"""

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from fastsmtp.addresses import packed
from fastsmtp.peer import Peer
from fastsmtp.settings import Settings
from fastsmtp.values import Network


class Ranges:
    """A set of addresses: `"192.0.2.1" in ranges`."""

    def __init__(self, networks: Iterable[Network]) -> None:
        networks = list(networks)
        ipv4 = [each for each in networks if isinstance(each, IPv4Network)]
        ipv6 = [each for each in networks if isinstance(each, IPv6Network)]
        self._bounds4 = _bounds(collapse_addresses(ipv4))
        self._bounds6 = _bounds(collapse_addresses(ipv6))

    def __contains__(self, address: str) -> bool:
        bounds = self._bounds6 if ":" in address else self._bounds4
        return bisect_right(bounds, int.from_bytes(packed(address), "big")) % 2 == 1


def _bounds(disjoint: Iterable[Network]) -> list[int]:
    """Where the set begins, ends, begins again, …: ascending, an end being the first one outside.

    An address is in it where an odd number of bounds is not above it.
    """
    bounds: list[int] = []
    for network in disjoint:
        bounds += int(network.network_address), int(network.broadcast_address) + 1
    return bounds


class Access:
    """What the settings say of addresses."""

    def __init__(self, settings: Settings) -> None:
        self.per_ip = settings.smtp_connections_per_ip  # connections; 0: no limit
        # None where there are none: nobody is looked up then
        self._range = Ranges(settings.smtp_range) if settings.smtp_range else None
        self._trusted = Ranges(settings.smtp_trusted) if settings.smtp_trusted else None
        self._proxies = Ranges(settings.smtp_proxy) if settings.smtp_proxy else None
        self._xclient = Ranges(settings.smtp_xclient) if settings.smtp_xclient else None

    def admits(self, ip: str) -> bool:
        """It may connect."""
        return self._range is None or ip in self._range

    def is_proxy(self, ip: str) -> bool:
        """It must send a PROXY header before anything else."""
        return self._proxies is not None and ip in self._proxies

    def judge(self, peer: Peer) -> bool:
        """Whether the client may come in; `peer` is told what else it may.

        A proxy that does not tell who its client is may come in, so that its health checks work,
        but sends mail only if it may do so for itself, and nobody trusts whom it speaks for. So
        may a peer in smtp-xclient, until it says XCLIENT. Whether it is one is judged once: on the
        address that it came with.
        """
        ip = peer.remote_ip
        if self._xclient is not None and not peer.is_introduced:
            peer.xclient_ip = ip if ip in self._xclient else ""
        admitted = self.admits(ip)
        peer.trusted = not peer.is_hidden and self._trusted is not None and ip in self._trusted
        peer.known = admitted or not peer.is_unnamed
        return admitted or peer.is_unnamed
