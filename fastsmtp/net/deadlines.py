"""One sweep over all connections for everything that takes too long; no timer per connection.

A client has `smtp-timeout` from the end of one command to the beginning of the next, and as much
again to its end. Content that brings nothing for so long, or less than `smtp-minrate` over WINDOW,
ends the session. So does a session that brings no message for `smtp-session-timeout`; that time
does not run while content comes at `smtp-minrate`.

These clocks stand still while the client waits for us: for the answer to a question, or for memory
before we read on. While messages wait for memory, content that has a grant must keep up `PACE`.
"""

import asyncio
from collections.abc import Collection

from fastsmtp import replies
from fastsmtp._session import Session
from fastsmtp.memory_budget import MemoryBudget
from fastsmtp.net.connection import Connection
from fastsmtp.replies import Reply
from fastsmtp.settings import Settings

REFUSED = 30.0
"""Seconds that a client has whose address is refused, whatever it says."""

WINDOW, STEPS = 60.0, 6
"""Seconds over which content is measured; so many times within them."""

PATIENCE = 60.0
"""Seconds that content waits for memory; then what came is thrown away, and what comes, too."""

PACE = 64 * 1024
"""Bytes per second of content that has a grant while others wait for one."""

BEHIND = 30.0
"""Seconds that such content may be behind that; then it is thrown away."""

HANDSHAKE = 10.0
"""Seconds that a client has for TLS's, after STARTTLS and on a TLS port."""

BATCH = 256
"""Connections that are looked at in one step of the event loop."""

LINGER = 5.0
"""Seconds that a client has to read the last reply and close."""


class Clock:
    """What the sweeps have seen of one connection."""

    __slots__ = (
        "_ahead",
        "_content",
        "_marked",
        "_marks",
        "_renewals",
        "idle",
        "paid_until",
        "progress",
        "received",
        "since",
    )

    def __init__(self, now: float) -> None:
        self.since = now  # the loop's time of the client's last progress
        self.progress = -1  # of the session, and bytes of content
        self.received = 0  # bytes of content
        self.paid_until = now  # the loop's time that content has paid for at PACE
        self.idle = 0.0  # seconds since a message was accepted, or deferred
        self._renewals = 0  # of the session
        self._ahead = 0.0  # seconds that content which has come pays for at smtp-minrate
        self._content = 0  # which of the session's contents is measured
        self._marked = 0.0  # seconds since the last mark
        self._marks: list[int] = []  # bytes of content at each of the last STEPS + 1 marks

    def measure(self, session: Session, elapsed: float, least: float) -> bool:
        """Let `elapsed` seconds of content pass: did the last WINDOW bring `least` bytes?"""
        if not session.in_content:
            self._marks = []
            return True
        if not self._marks or self._content != session.contents:
            self._content = session.contents
            self._marks, self._marked = [self.received], 0.0
            return True
        self._marked += elapsed
        if self._marked < WINDOW / STEPS:
            return True
        self._marked = 0.0
        self._marks.append(self.received)
        return len(self._marks) <= STEPS or self.received - self._marks.pop(0) >= least

    def wait_for_mail(self, session: Session, elapsed: float, paid: float) -> None:
        """Let `elapsed` seconds pass, in which content came that pays for `paid` seconds."""
        if self._renewals != session.renewals:
            self._renewals = session.renewals
            self.idle = self._ahead = 0.0
            return
        self._ahead = min(WINDOW, self._ahead + paid)
        spent = min(self._ahead, elapsed)
        self._ahead -= spent
        self.idle += elapsed - spent


class Deadlines:
    """Ends what is too slow in `connections`."""

    def __init__(
        self, connections: Collection[Connection], memory: MemoryBudget, settings: Settings
    ) -> None:
        self._memory = memory
        self._connections = connections
        self._timeout = settings.smtp_timeout
        self._minrate = settings.smtp_minrate
        self._session_timeout = settings.smtp_session_timeout
        self._interval = min(1.0, self._timeout / 4, self._session_timeout / 4)
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
        self._sweep_some(loop, list(self._connections), now, elapsed)

    def _sweep_some(
        self, loop: asyncio.AbstractEventLoop, rest: list[Connection], now: float, elapsed: float
    ) -> None:
        """Check BATCH connections, then let others have their turn: all may be late at once."""
        for connection in rest[-BATCH:]:
            if connection in self._connections:
                self._check(connection, now, elapsed)
        del rest[-BATCH:]
        if rest:
            loop.call_soon(self._sweep_some, loop, rest, now, elapsed)

    def _check(self, connection: Connection, now: float, elapsed: float) -> None:
        session, flow = connection.session, connection.flow
        clock = connection.clock
        if not isinstance(clock, Clock):
            clock = connection.clock = Clock(now)
        came = session.received - clock.received
        clock.received += came
        self._keep_pace(connection, clock, came, now)
        if flow.waits_for_memory:
            clock.since += elapsed
            flow.paused_for += elapsed
            if flow.paused_for > PATIENCE:
                connection.abandon()
        elif session.question is not None:
            clock.since = now
        elif (reply := self._lateness(connection, clock, now)) is not None:
            self._end(connection, reply)
        elif not session.closing:
            reply = self._slowness(session, clock, came, elapsed)
            if reply is not None:
                self._end(connection, reply)

    def _lateness(self, connection: Connection, clock: Clock, now: float) -> Reply | None:
        """Give the last reply where nothing has come for too long."""
        session = connection.session
        progress = session.progress + clock.received
        if progress != clock.progress and not (session.refused and clock.progress >= 0):
            clock.progress = progress
            clock.since = now
            return None
        return replies.TOO_SLOW if now - clock.since > self._allowed(connection) else None

    def _slowness(self, session: Session, clock: Clock, came: int, elapsed: float) -> Reply | None:
        """Give the last reply where content, or the session as a whole, brings too little."""
        if not clock.measure(session, elapsed, self._minrate * WINDOW):
            return replies.TOO_SLOW
        clock.wait_for_mail(session, elapsed, came / self._minrate)
        return replies.NO_MAIL if clock.idle > self._session_timeout else None

    def _end(self, connection: Connection, reply: Reply) -> None:
        if connection.session.closing:
            connection.abort()
        else:
            connection.close(reply)

    def _keep_pace(self, connection: Connection, clock: Clock, came: int, now: float) -> None:
        """Throw content away whose sender keeps others waiting."""
        flow = connection.flow
        if not (self._memory.waiting and flow.claim.granted) or flow.waits_for_memory:
            clock.paid_until = now
            return
        clock.paid_until = min(now, clock.paid_until + came / PACE)
        if now - clock.paid_until > BEHIND:
            clock.paid_until = now
            connection.abandon()

    def _allowed(self, connection: Connection) -> float:
        session = connection.session
        if session.closing:
            return LINGER
        if connection.is_shaking_hands:
            return min(HANDSHAKE, self._timeout)
        if session.refused:
            return min(REFUSED, self._timeout)
        return self._timeout
