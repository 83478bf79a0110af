"""Whether the broker is there: tells the availability, the metrics, and the log once each way.

Connections report here; none of them writes the availability or logs an attempt itself.
"""

import asyncio
import logging
from collections import Counter

from fastsmtp import replies
from fastsmtp.availability import Availability
from fastsmtp.sinks.rabbitmq.counters import BrokerCounters

log = logging.getLogger(__name__)

ROUNDS = 3
"""Times that one connection may fail, while others are up, before that is worth a line."""

LONG_AWAY = 60.0
"""Seconds without a broker after which clients are sent away at the greeting."""

HINT = "To run without a broker: rabbitmq-address: none"
REFUSED_HINT = (
    "Look at user, password and vhost in rabbitmq-address, at rabbitmq-exchange, and at the "
    "broker's log"
)


class Presence:
    """Away: no connection for ordinary mail is up. Blocked: the broker has told an alarm."""

    def __init__(
        self, availability: Availability, metrics: BrokerCounters, spills: bool = False
    ) -> None:
        """`spills`: mail goes elsewhere meanwhile, as the log says."""
        self.is_blocked = False  # an alarm: nothing is stored until it clears
        self._availability = availability
        self._metrics = metrics
        self._spills = spills
        self._up: set[object] = set()  # connections for ordinary mail that publish
        self._failures: Counter[object] = Counter()  # rounds in vain since a connection was up
        self._lame: set[object] = set()  # connections that the log says are missing
        self._blocked: set[object] = set()  # of them, those that the broker has blocked
        self._told: set[str] = set()  # what the log knows of the broker that is away: the hints
        self._is_refusal = False  # it is away for a publish that it refused: others log that
        self._closed = False
        self._greeting: asyncio.TimerHandle | None = None
        self._update()

    def start(self) -> None:
        """From now on it counts how long the broker is away."""
        self._availability.trouble = "RabbitMQ is not connected yet"
        self._stay_away()

    def connected(self, connection: object, where: str, bulk: bool) -> None:
        """A connection publishes; one for `bulk` only is not enough to take mail."""
        self._failures.pop(connection, None)
        if connection in self._lame:
            self._lame.remove(connection)
            log.info("RabbitMQ: the missing connection is up")
        if bulk:
            return
        self._availability.is_refused = False
        if not self._up:
            if self._told or not self._is_refusal:
                log.info("RabbitMQ is %s: %s", "back" if self._told else "connected", where)
            self._told.clear()
            self._is_refusal = False
            self._availability.trouble = ""
            self._end()
            self._availability.greeting = None
        self._up.add(connection)
        self._update()

    def disconnected(self, connection: object, reason: str, is_refusal: bool = False) -> None:
        """A connection is lost; `is_refusal`: over a publish, and the log knows it already."""
        self.unblocked(connection)
        if connection in self._up:
            self._up.remove(connection)
            if not self._up:
                self._stay_away()
                self._is_refusal = is_refusal
                if is_refusal:
                    self._availability.trouble = f"RabbitMQ refused a publish ({reason})"
                else:
                    self._tell(f"RabbitMQ went away ({reason})")

    def failed(self, connection: object, tried: str, refused: bool) -> None:
        """All addresses were tried in vain; `refused`: a broker was there and let us not in."""
        self._failures[connection] += 1
        self._availability.is_refused = refused and not self._up
        if not self._up and refused:
            self._tell(f"RabbitMQ refused the connection: tried {tried}", REFUSED_HINT)
        elif not self._up:
            self._tell(f"RabbitMQ cannot be reached: tried {tried}")
        elif self._failures[connection] >= ROUNDS and connection not in self._lame:
            self._lame.add(connection)
            log.warning("RabbitMQ: one connection of several is missing: tried %s", tried)

    def blocked(self, connection: object) -> None:
        """The broker has an alarm of memory or disk."""
        if not self._blocked:
            self._availability.trouble = "RabbitMQ has an alarm of memory or disk"
            meanwhile = "goes into rabbitmq-spill" if self._spills else "is answered 452"
            log.warning("%s: mail %s", self._availability.trouble, meanwhile)
        self._blocked.add(connection)
        self._update()

    def unblocked(self, connection: object) -> None:
        """It has cleared, or nobody can know any more."""
        if connection in self._blocked:
            self._blocked.remove(connection)
            if not self._blocked:
                self._availability.trouble = ""
                log.info("RabbitMQ takes mail again")
            self._update()

    def close(self) -> None:
        """We leave: what connections report now is no news."""
        self._closed = True
        self._end()

    def _tell(self, what: str, hint: str = HINT) -> None:
        """Log it, unless that is known since the broker was last up."""
        self._availability.trouble = what
        if hint not in self._told and not self._closed:
            self._told.add(hint)
            meanwhile = "goes into rabbitmq-spill" if self._spills else "is answered 451"
            log.warning("%s; mail %s until it is back. %s", what, meanwhile, hint)

    def _stay_away(self) -> None:
        self._update()
        if self._greeting is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._greeting = loop.call_later(LONG_AWAY, self._close_the_door)

    def _close_the_door(self) -> None:
        self._availability.greeting = replies.UNAVAILABLE

    def _end(self) -> None:
        if self._greeting is not None:
            self._greeting.cancel()
            self._greeting = None

    def _update(self) -> None:
        self.is_blocked = bool(self._blocked)
        if not self._up:
            self._availability.refusal = replies.NOT_STORED
            self._metrics.broker_state = "away"
        elif self._blocked:
            self._availability.refusal = replies.NO_SPACE
            self._metrics.broker_state = "blocked"
        else:
            self._availability.refusal = None
            self._metrics.broker_state = "up"
