"""Flow control of one connection: when its client is read, and how much of its mail is held.

It looks at the session, pauses and resumes the transport's reading and reports bytes to the
memory budget. It reads and writes nothing.
"""

import asyncio
from collections.abc import Callable

from fastsmtp import replies
from fastsmtp._session import Session
from fastsmtp.memory_budget import FLAT, TLS, MemoryBudget
from fastsmtp.net.answerer import Answered
from fastsmtp.net.turns import Turns
from fastsmtp.questions import Message, Room
from fastsmtp.replies import Reply

BACKLOG = 64 * 1024
"""Octets that a client may send on while the session waits; then it is not read."""


def _nothing() -> None:
    """What a connection that is gone goes on with."""


class Flow:
    """Also the `memory_budget.Receiver` of its connection, and the answerer of `Room`."""

    __slots__ = (
        "_answered",
        "_flat",
        "_go_on",
        "_going_on",
        "_memory",
        "_room",
        "_turns",
        "_unwritten",
        "claim",
        "is_blocked",
        "is_paused",
        "paused_for",
        "session",
        "transport",
        "waits_for_memory",
    )

    def __init__(
        self, memory: MemoryBudget, turns: Turns, session: Session, go_on: Callable[[], None]
    ) -> None:
        """`go_on` is called, later, where the session has more to say and the client reads."""
        self.session = session
        self.transport: asyncio.Transport
        self.is_paused = False  # reading is
        self.is_blocked = False  # writing is: the client does not read
        self.waits_for_memory = False  # content is not read, or 354 not said, until there is some
        self.paused_for = 0.0  # seconds that it has waited for memory; counted by deadlines
        self.claim = memory.claim(session.peer, self)
        self._memory = memory
        self._turns = turns
        self._go_on = go_on
        self._going_on = False  # `go_on` will be called
        self._unwritten = 0  # bytes of replies that the client does not read
        self._room: Room | None = None  # the question that waits
        self._answered: Answered | None = None
        self._flat = FLAT  # bytes that the connection itself is charged with
        memory.connect(FLAT)

    def charge_tls(self) -> None:
        """TLS has begun."""
        self._flat += TLS
        self._memory.connect(TLS)

    def is_quiet(self) -> bool:
        """Nothing is held or paused: `update` would do nothing unless the session keeps input."""
        return not (self.claim.charged or self.is_paused)

    def block(self, is_blocked: bool) -> None:
        """The client does not read its replies, so it is not read either; or it reads again."""
        self.is_blocked = is_blocked
        self._unwritten = self.transport.get_write_buffer_size() if is_blocked else 0
        self.update()

    def update(self) -> None:
        """Read while the client reads, the backlog is small and there is memory.

        At the end everything is read, to throw it away.
        """
        session = self.session
        claim = self.claim
        held = session.held
        if not (
            held or claim.charged or self.is_blocked or self.is_paused or self.waits_for_memory
        ):
            return
        if held + self._unwritten != claim.size or claim.granted or self.waits_for_memory:
            self.share_memory()
        if session.stalled and not self.is_blocked and not self._going_on:
            self._going_on = True
            self._turns.add(self._proceed)
        waits = self.waits_for_memory and self._room is None
        pause = self.is_blocked or waits or self._has_backlog()
        pause = pause and not session.closing
        if pause == self.is_paused or self.transport.is_closing():
            return
        self.is_paused = pause
        self.paused_for = 0.0
        if pause:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _has_backlog(self) -> bool:
        """More has come than may be kept until the session goes on."""
        backlog = self.session.backlog
        return backlog > BACKLOG or (backlog > 0 and self._memory.must_ask(self.claim.client))

    def regulate(self) -> None:
        """See `memory_budget.Receiver`."""
        room, answered = self._room, self._answered
        if room is not None and answered is not None:
            self._room = self._answered = None
            self.waits_for_memory = False
            answered(room, replies.GO_AHEAD)
        else:
            self.share_memory()
            self.update()

    def share_memory(self) -> None:
        """Report what is held, and what may come to be held."""
        session = self.session
        size = session.held + self._unwritten
        self._identify()
        if self._room is not None and session.question is self._room:
            return
        if session.filling:
            self.waits_for_memory = not self.claim.reach(size, session.expected)
        else:
            self.claim.give_back(size)
            self.waits_for_memory = False

    def ask(self, question: Room, answered: Answered) -> Reply | None:
        """See `answerer.Answerer`: 354 where there is memory for the whole message."""
        self._identify()
        if self.claim.reserve(question.size):
            return replies.GO_AHEAD
        self._room, self._answered = question, answered
        self.waits_for_memory = True
        self.paused_for = 0.0
        return None

    def give_up(self) -> None:
        """There was no memory for too long: the message is refused."""
        room, answered = self._room, self._answered
        if room is not None and answered is not None:
            self._room = self._answered = None
            self.claim.give_back(0)
            self.waits_for_memory = False
            answered(room, replies.NO_MEMORY)
        else:
            self.session.abandon()
            self.regulate()

    def hand_over(self, message: Message) -> None:
        """Give what is held to `message`, which has come in whole."""
        self._identify()
        claim, message.claim = self.claim, self.claim
        message.overhead = self.session.overhead
        self.claim = self._memory.claim(self.session.peer, self)
        self.waits_for_memory = False
        claim.hand_over(message.size + message.overhead if claim.charged else 0)

    def end(self) -> None:
        """The connection is gone: hold nothing, not the connection either, and stand in no line."""
        self._go_on = _nothing
        self._room = self._answered = None
        self.claim.end()
        self._memory.connect(-self._flat)

    def _identify(self) -> None:
        """The claim is that of whoever the client has turned out to be."""
        if self.session.peer.client is not self.claim.client:
            self.claim.end()
            self.claim = self._memory.claim(self.session.peer, self)

    def _proceed(self) -> None:
        self._going_on = False
        if not self.is_blocked:
            self._go_on()
