"""The listening sockets of all generations: bound once, by the supervisor.

A socket that stays is never closed, so no client is refused or reset while workers come and go.
One that goes is emptied first: who waits in its backlog is told 421.
"""

import socket

from fastsmtp.net.listener import bind, turn_away
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
                    address, port = place
                    self._bound[place] = bind((address,) if address else (), (port,))
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

    def _close(self, place: Place) -> None:
        for bound in self._bound.pop(place):
            turn_away(bound)


def _places(settings: Settings) -> list[Place]:
    return [(ip, port) for port in settings.smtp_port for ip in settings.smtp_ip or ("",)]
