"""The listening sockets of all generations: bound once, by the supervisor.

A socket that stays is never closed, so no client is refused or reset while workers come and go.
One that goes is emptied first: who waits in its backlog is told 421.
"""

import socket
from typing import NamedTuple

from fastsmtp.net.listener import ListenError, bind, turn_away
from fastsmtp.settings import Settings


class Place(NamedTuple):
    """Where the settings want a socket."""

    address: str  # "" for every one
    port: int
    tls_first: bool  # TLS from the first octet


class Bound(NamedTuple):
    """A socket that listens."""

    socket: socket.socket
    tls_first: bool


class Sockets:
    """What is bound, by place."""

    def __init__(self) -> None:
        self._bound: dict[Place, list[socket.socket]] = {}

    def extend(self, settings: Settings) -> list[Bound]:
        """Bind what `settings` want and is not bound yet; gives all that they want.

        Raises net.listener.ListenError, and binds nothing then.
        """
        added: list[Place] = []
        wanted = _places(settings)
        try:
            for place in wanted:
                if place not in self._bound:
                    self._bound[place] = self._bind(place.address, place.port)
                    added.append(place)
        except OSError:
            self._close(added)
            raise
        return [Bound(each, place.tls_first) for place in wanted for each in self._bound[place]]

    def reduce(self, settings: Settings | None) -> None:
        """Close what `settings` do not want; None: everything. No worker accepts on it any more."""
        wanted = _places(settings) if settings else []
        self._close([place for place in self._bound if place not in wanted])

    def _bind(self, address: str, port: int) -> list[socket.socket]:
        try:
            return bind((address,) if address else (), (port,))
        except ListenError:
            if any(port == place.port for place in self._bound):
                # One address and all of them exclude each other, unless SO_REUSEPORT hides it
                # where another program has the port.
                raise ListenError(
                    f"smtp-ip: port {port} is ours already, on other addresses or of the other "
                    "kind, and a reload cannot change between all addresses and some, nor between "
                    "smtp-port and smtp-secure-port: stop fastsmtp and start it"
                ) from None
            raise

    def _close(self, places: list[Place]) -> None:
        sockets: dict[bool, list[socket.socket]] = {False: [], True: []}
        for place in places:
            sockets[place.tls_first] += self._bound.pop(place)
        turn_away(sockets[False], sockets[True])


def _places(settings: Settings) -> list[Place]:
    addresses = dict.fromkeys(settings.smtp_ip or ("",))
    ports = [(port, False) for port in settings.smtp_port]
    ports += [(port, True) for port in settings.smtp_secure_port]
    return [Place(ip, port, tls_first) for port, tls_first in ports for ip in addresses]
