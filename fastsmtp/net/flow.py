"""Flow control of one connection: when its client is read, and how much of its mail is held.

It looks at the session, pauses and resumes the transport's reading and reports bytes to the
memory budget. It reads and writes nothing.
"""

import asyncio
from collections.abc import Callable

from fastsmtp._session import Session
from fastsmtp.memory_budget import MemoryBudget

BACKLOG = 64 * 1024
"""Octets that a client may send on while the session waits; then it is not read."""


def _nothing() -> None:
    """What a connection that is gone goes on with."""


class Flow:
    """Also the `memory_budget.Receiver` of its connection while content comes in."""

    __slots__ = (
        "_go_on",
        "_going_on",
        "_held",
        "_memory",
        "is_blocked",
        "is_paused",
        "paused_for",
        "session",
        "transport",
        "waits_for_memory",
    )

    def __init__(self, memory: MemoryBudget, session: Session, go_on: Callable[[], None]) -> None:
        """`go_on` is called, later, where the session has more to say and the client reads."""
        self.session = session
        self.transport: asyncio.Transport
        self.is_paused = False  # reading is
        self.is_blocked = False  # writing is: the client does not read
        self.waits_for_memory = False  # content is not read: the memory budget says so
        self.paused_for = 0.0  # seconds that it has waited for memory; counted by deadlines
        self._memory = memory
        self._go_on = go_on
        self._going_on = False  # `go_on` will be called
        self._held = 0  # octets that the session keeps, as the memory budget knows

    def is_quiet(self) -> bool:
        """Nothing is held or paused: `update` would do nothing unless the session keeps input."""
        return not (self._held or self.is_paused or self._memory.is_full)

    def block(self, is_blocked: bool) -> None:
        """The client does not read its replies, so it is not read either; or it reads again."""
        self.is_blocked = is_blocked
        self.update()

    def update(self) -> None:
        """Read while the client reads, the backlog is small and memory is not full.

        At the end everything is read, to throw it away.
        """
        session = self.session
        held = session.held
        if not (held or self._held or self.is_blocked or self.is_paused or self._memory.is_full):
            return
        if held != self._held or self._memory.is_full:
            self.share_memory()
        if session.stalled and not self.is_blocked and not self._going_on:
            self._going_on = True
            asyncio.get_running_loop().call_soon(self._proceed)
        pause = self.is_blocked or self.waits_for_memory or session.backlog > BACKLOG
        pause = pause and not session.closing
        if pause == self.is_paused or self.transport.is_closing():
            return
        self.is_paused = pause
        self.paused_for = 0.0
        if pause:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def regulate(self) -> None:
        """See `memory_budget.Receiver`."""
        self.share_memory()
        self.update()

    def share_memory(self) -> None:
        """Report what is held, and whether content is expected.

        A connection that alone goes on keeps its turn until its message is answered: the next
        message would be too much.
        """
        session = self.session
        memory = self._memory
        if session.filling and (session.held or memory.is_full):
            memory.enter(self)
        elif not (session.question is not None and memory.goes_on(self)):
            memory.leave(self)
        self._hold(session.held)
        self.waits_for_memory = memory.must_wait(self)

    def hand_over(self) -> int:
        """Give the octets that the memory budget knows of to whoever has the message now."""
        held, self._held = self._held, 0
        return held

    def end(self) -> None:
        """The connection is gone: hold nothing, not the connection either, and stand in no line."""
        self._go_on = _nothing
        self._memory.leave(self)
        self._hold(0)

    def _proceed(self) -> None:
        self._going_on = False
        if not self.is_blocked:
            self._go_on()

    def _hold(self, octets: int) -> None:
        more, self._held = octets - self._held, octets
        if more:
            self._memory.hold(more)
