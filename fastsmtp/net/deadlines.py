"""One sweep over all connections for everything that takes too long; no timer a connection.

A client has `smtp-timeout` from the end of one command to the beginning of the next, and as much
again to its end; content may take that and its octets at `smtp-minrate`. While a message is with
the sink, or credentials with the authenticator, the clock begins anew; while memory is short and
content is not read, or 354 not said, it stands still. While messages wait for memory, content that
has a grant must keep up `PACE`.
"""

import asyncio
from collections.abc import Iterable

from fastsmtp import replies
from fastsmtp.memory_budget import MemoryBudget
from fastsmtp.net.connection import Connection

REFUSED = 30.0
"""Seconds that a client has whose address is refused, whatever it says."""

PATIENCE = 60.0
"""Seconds that content waits for memory; then what came is thrown away, and what comes, too."""

PACE = 64 * 1024
"""Bytes per second of content that has a grant while others wait for one."""

BEHIND = 30.0
"""Seconds that such content may be behind that; then it is thrown away."""

HANDSHAKE = 10.0
"""Seconds that a client has for TLS's, after STARTTLS and on a TLS port."""

LINGER = 5.0
"""Seconds that a client has to read the last reply and close."""


class Deadlines:
    """Ends what is too slow in `connections`."""

    def __init__(
        self,
        connections: Iterable[Connection],
        memory: MemoryBudget,
        timeout: float,
        minrate: int,
    ) -> None:
        """`timeout` in seconds, `minrate` in octets a second."""
        self._memory = memory
        self._connections = connections
        self._timeout = timeout
        self._minrate = minrate
        self._interval = min(1.0, timeout / 4)
        self._timer: asyncio.TimerHandle | None = None
        self._swept = 0.0  # the loop's time

    def start(self) -> None:
        """Sweep from now on, on the running loop."""
        loop = asyncio.get_running_loop()
        self._swept = loop.time()
        self._timer = loop.call_later(self._interval, self._sweep, loop)

    def stop(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._interval, self._sweep, loop)
        now = loop.time()
        elapsed, self._swept = now - self._swept, now
        for connection in list(self._connections):
            self._check(connection, now, elapsed)

    def _check(self, connection: Connection, now: float, elapsed: float) -> None:
        session, flow = connection.session, connection.flow
        self._keep_pace(connection, now)
        if flow.waits_for_memory:
            connection.since += elapsed
            flow.paused_for += elapsed
            if flow.paused_for > PATIENCE:
                connection.abandon()
        elif session.question is not None:
            connection.since = now
        elif session.progress != connection.seen_progress and not (
            session.refused and connection.since
        ):
            connection.seen_progress = session.progress
            connection.since = now
        elif now - connection.since > self._allowed(connection):
            if session.closing:
                connection.abort()
            else:
                connection.close(replies.TOO_SLOW)

    def _keep_pace(self, connection: Connection, now: float) -> None:
        """Throw content away whose sender keeps others waiting."""
        session, flow = connection.session, connection.flow
        received, before = session.received, connection.brought
        connection.brought = received
        is_counted = connection.paid_until and self._memory.waiting and flow.claim.granted
        if not is_counted or flow.waits_for_memory:
            connection.paid_until = now
            return
        if received < before:  # of another chunk
            before = 0
        connection.paid_until = min(now, connection.paid_until + (received - before) / PACE)
        if now - connection.paid_until > BEHIND:
            connection.paid_until = now
            connection.abandon()

    def _allowed(self, connection: Connection) -> float:
        session = connection.session
        if session.closing:
            return LINGER
        if connection.is_shaking_hands:
            return min(HANDSHAKE, self._timeout)
        if session.refused:
            return min(REFUSED, self._timeout)
        if session.in_content:
            return self._timeout + session.received / self._minrate
        return self._timeout
