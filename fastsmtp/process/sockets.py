"""The listening sockets of all generations: bound once, by the supervisor.

A socket that stays is never closed, so no client is refused or reset while workers come and go.
One that goes is emptied first: who waits in its backlog is told 421.
"""

import socket

from fastsmtp.net.listener import ListenError, bind, turn_away
from fastsmtp.settings import Settings

Place = tuple[str, int]
"""An address, or "" for every one, and a port as the settings name them."""


class Sockets:
    """What is bound, by place."""

    def __init__(self) -> None:
        self._bound: dict[Place, list[socket.socket]] = {}

    def extend(self, settings: Settings) -> list[socket.socket]:
        """Bind what `settings` want and is not bound yet; gives all that they want.

        Raises net.listener.ListenError, and binds nothing then.
        """
        added: list[Place] = []
        wanted = _places(settings)
        try:
            for place in wanted:
                if place not in self._bound:
                    self._bound[place] = self._bind(*place)
                    added.append(place)
        except OSError:
            for place in added:
                self._close(place)
            raise
        return [bound for place in wanted for bound in self._bound[place]]

    def reduce(self, settings: Settings | None) -> None:
        """Close what `settings` do not want; None: everything. No worker accepts on it any more."""
        wanted = _places(settings) if settings else []
        for place in [place for place in self._bound if place not in wanted]:
            self._close(place)

    def _bind(self, address: str, port: int) -> list[socket.socket]:
        try:
            return bind((address,) if address else (), (port,))
        except ListenError:
            if any(port == ours for _, ours in self._bound):
                # One address and all of them exclude each other, unless SO_REUSEPORT hides it
                # where another program has the port.
                raise ListenError(
                    f"smtp-ip: port {port} is ours already, on other addresses, and a reload "
                    "cannot change between all addresses and some: stop fastsmtp and start it"
                ) from None
            raise

    def _close(self, place: Place) -> None:
        for bound in self._bound.pop(place):
            turn_away(bound)


def _places(settings: Settings) -> list[Place]:
    addresses = dict.fromkeys(settings.smtp_ip or ("",))
    return [(ip, port) for port in settings.smtp_port for ip in addresses]
