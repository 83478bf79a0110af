"""Where a message is published: an exchange and a routing key (AMQP 0-9-1 §1.8.3.7)."""

from dataclasses import dataclass
from functools import lru_cache

LONGEST = 255
"""Bytes of a name (AMQP 0-9-1 §4.2.5.3, short string)."""


@dataclass(frozen=True, slots=True)
class Route:
    """What was chosen for a recipient; None in its place means what the settings say.

    Raises ValueError for a name that AMQP has no room for.
    """

    exchange: str  # "": the default exchange, where the routing key is the name of a queue
    routing_key: str

    def __post_init__(self) -> None:
        for name in (self.exchange, self.routing_key):
            if len(name.encode()) > LONGEST:
                raise ValueError(f"{name[:40]!r}… is longer than {LONGEST} bytes")

    @staticmethod
    @lru_cache(maxsize=4096)
    def of(exchange: str, routing_key: str) -> "Route":
        """Give the route to these names: one object for all messages, while it is in use."""
        return Route(exchange, routing_key)

    def __str__(self) -> str:
        via = f" through exchange {self.exchange!r}" if self.exchange else ""
        return f"queue {self.routing_key!r}{via}"
