"""One confirming channel and its connection, until they end: does the broker store what is sent?

Looks a few times per second: settles what has waited too long, tells alarms, and says why the
channel must end. Whether mail goes over another one is its link's to decide: see link.py.
"""

import asyncio
from collections.abc import Callable

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp.sinks.rabbitmq.failover import Address
from fastsmtp.sinks.rabbitmq.presence import Presence
from fastsmtp.sinks.rabbitmq.publisher import Publisher
from fastsmtp.sinks.rabbitmq.underlay import Connection, Underlay
from fastsmtp.sinks.rabbitmq.unstored import Unstored

LOOK_INTERVAL = 0.25
"""Seconds between two looks; less where rabbitmq-timeout is short."""

NACKED = 0.5
"""Seconds in which the broker has nacked and confirmed nothing: it stores nothing."""

SILENT = 5.0
"""Seconds in which the broker has confirmed nothing though some is due: it stores nothing."""


class Channel:
    """Its publisher has been attached; `watch` returns at the end."""

    def __init__(
        self,
        address: Address,
        connection: Connection,
        underlay: Underlay,
        publisher: Publisher,
        presence: Presence,
        unstored: Unstored,
        timeout: float,
    ) -> None:
        """`timeout` in seconds: rabbitmq-timeout."""
        self.address = address
        self.connection = connection
        self.publisher = publisher
        self.is_new = False  # opened since mail was last stored, as another one stored nothing
        self.has_acked = False  # between the last two looks
        self.silent = 0  # publishes that had no confirm in time, which ended the channel
        self._underlay = underlay
        self._presence = presence
        self._unstored = unstored
        self._timeout = timeout
        self._retired = False
        self._is_held = False
        self._first = publisher.acks
        self._seen = (publisher.acks, publisher.nacks, publisher.drains)
        # Seconds, while something is due:
        self._still = 0.0  # without any movement
        self._without_ack = 0.0
        # Since the first nack behind the last ack, whether something is due or not:
        self._nacked = 0.0

    @property
    def is_nacking(self) -> bool:
        """The broker refuses everything."""
        return self._nacked >= NACKED

    @property
    def is_silent(self) -> bool:
        """The broker confirms nothing, though it has publishes."""
        return self._without_ack >= SILENT

    @property
    def has_stored(self) -> bool:
        """Something was confirmed on it."""
        return self.publisher.acks != self._first

    def hold(self) -> None:
        """Publish no more until `go_on`: it would be nacked."""
        if not self._is_held:
            self._is_held = True
            self.publisher.pause()

    def go_on(self) -> None:
        """Publish again."""
        if self._is_held:
            self._is_held = False
            self.publisher.resume()

    def retire(self) -> None:
        """End once nothing is due: another channel publishes from now on."""
        self._retired = True

    async def watch(self, look: "Callable[[Channel], None]") -> BaseException:
        """Why the channel ended, or must end; calls `look` after every look at it."""
        interval = max(0.01, min(LOOK_INTERVAL, self._timeout / 10))
        looked = now()
        while True:
            await asyncio.wait([self._underlay.closing], timeout=interval)
            if self._underlay.closing.done():
                return self._underlay.reason
            # After a pause of the whole process the broker's words are still unread.
            passed, looked = min(now() - looked, 2 * interval), now()
            is_blocked = self._look_for_alarm()
            self._measure(passed, is_blocked)
            if self._still >= self._timeout:
                self.silent = self.publisher.unconfirmed
                self._unstored.timed_out(self.silent, self._timeout)
                return TimeoutError(f"no confirm for {self._timeout:g} seconds")
            # If nothing moves from now on, the end of the channel settles them.
            if self._still <= self._timeout - 3 * interval:
                self._settle_old(looked - self._timeout, is_blocked)
            if self._retired and not self.publisher.unconfirmed:
                return ConnectionError("another connection publishes in its place")
            look(self)

    def _look_for_alarm(self) -> bool:
        if not self.connection.is_blocked:
            self._presence.unblocked(self)
            return False
        self._presence.blocked(self)
        self.publisher.settle_waiting(replies.NO_SPACE)
        return True

    def _measure(self, passed: float, is_blocked: bool) -> None:
        """Count `passed` seconds; a blocked broker owes nothing."""
        publisher = self.publisher
        acks, nacks, drains = self._seen
        self._seen = (publisher.acks, publisher.nacks, publisher.drains)
        self.has_acked = publisher.acks != acks
        owes = publisher.is_owed and not is_blocked
        moves = self._seen != (acks, nacks, drains)
        self._still = self._still + passed if owes and not moves else 0.0
        # What the socket takes is a good sign only while the broker has no whole publish.
        is_fed = publisher.drains != drains and publisher.is_writing_first
        if self.has_acked or is_fed or not owes:
            self._without_ack = 0.0
        else:
            self._without_ack += passed
        if self.has_acked:
            self._nacked = 0.0
        elif self._nacked or publisher.nacks != nacks:
            self._nacked += passed
        publisher.is_doubtful = self.is_nacking or self.is_silent

    def _settle_old(self, before: float, is_blocked: bool) -> None:
        refusal = replies.NO_SPACE if is_blocked else replies.NOT_STORED
        late = self.publisher.settle_old(before, refusal)
        if late and not is_blocked:
            self._unstored.timed_out(late, self._timeout)
            if not self.is_silent:
                self._unstored.late(str(self.address), late, self._timeout)
