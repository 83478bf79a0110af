"""A finished message on its way: payload, sink, reply.

Takes messages from sessions, gives each its one reply. A message of ordinary size costs no task;
a large one is composed in steps by a task of its own, so that nobody waits for it.
"""

import asyncio
import logging
from collections.abc import Callable

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp._session import Session
from fastsmtp.envelope import Envelope
from fastsmtp.gate import Gate
from fastsmtp.headers import RefusedError
from fastsmtp.metrics import Metrics
from fastsmtp.net.received_log import ReceivedLog
from fastsmtp.payload import Composer, Outgoing, Steps
from fastsmtp.refusals import Refusals
from fastsmtp.replies import Reply
from fastsmtp.sinks.base import Sink

log = logging.getLogger(__name__)

LARGE = 256 * 1024
"""Octets of content from which on a message is composed by a task."""

RECIPIENT = 512
"""Octets that a recipient takes, about, besides what all of a message share."""

Answer = Callable[[Envelope, Reply], None]
"""Told the reply to the message that has this envelope."""


class Arrival:
    """One finished message, until its reply is known."""

    __slots__ = ("_begun", "_held", "_intake", "answer", "envelope", "outgoing", "peer", "size")

    def __init__(self, intake: "Intake", session: Session, answer: Answer, held: int) -> None:
        self._intake = intake
        self._begun = now()
        self._held = held  # octets, as the gate knows
        self.answer = answer
        self.peer = session.peer
        self.envelope = session.envelope
        self.size = session.size  # octets, before newlines were repaired
        self.outgoing: list[Outgoing] = []  # in the order of the envelope's recipients

    def hold(self, octets: int) -> None:
        """So much of it is held now."""
        self._intake.gate.hold(octets - self._held)
        self._held = octets

    def done(self, refusal: Reply | None) -> None:
        """The sink knows what became of it."""
        self.answer(self.envelope, self.rejected(refusal) if refusal else self._stored())

    def failed(self, error: Exception) -> Reply:
        """It cannot be handed over: the reply."""
        if isinstance(error, RefusedError):
            return self.rejected(error.reply)
        log.error("a message could not be handed over", exc_info=error, extra={"peer": self.peer})
        return self.rejected(replies.INTERNAL)

    def rejected(self, reply: Reply) -> Reply:
        """Count and report that it is answered with `reply`, which is given back."""
        intake = self._intake
        intake.metrics.reject(reply)
        intake.refusals.tell(reply, self.peer, self.envelope, None, self.size)
        return self._ended(reply, [])

    def _stored(self) -> Reply:
        metrics = self._intake.metrics
        metrics.messages += 1
        metrics.recipients += len(self.outgoing)
        metrics.octets += self.size
        stored = []
        for position, recipient in enumerate(self.envelope.recipients):
            outgoing = self.outgoing[position]
            stored.append((outgoing.id, recipient.mailbox))
        return self._ended(replies.queued(stored), self.outgoing)

    def _ended(self, reply: Reply, stored: list[Outgoing]) -> Reply:
        intake = self._intake
        intake.metrics.in_flight -= 1
        intake.gate.hold(-self._held)
        intake.metrics.reply_seconds.since(self._begun)
        if intake.received_log is not None or intake.tells:
            ids = [outgoing.id for outgoing in stored]
            if intake.received_log is not None and ids:
                intake.received_log.accepted(ids, self.envelope, self.size, self.peer, reply)
            log.debug("message answered: %r", reply, extra={"peer": self.peer, "ids": ids})
        return reply


class Intake:
    """Every message that one worker is answering."""

    def __init__(
        self,
        gate: Gate,
        composer: Composer,
        sink: Sink,
        metrics: Metrics,
        refusals: Refusals,
        received_log: ReceivedLog | None = None,
    ) -> None:
        self.gate = gate
        self.metrics = metrics
        self.refusals = refusals
        self.received_log = received_log
        self.tells = log.isEnabledFor(logging.DEBUG)
        self._composer = composer
        self._sink = sink
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()  # of a large message: one at a time is composed

    def accept(self, session: Session, answer: Answer, held: int) -> Reply | None:
        """Take the finished message of a waiting session; the gate knows of `held` octets of it.

        Gives the reply where it is known at once; else `answer` is called with it, once, later.
        """
        self.metrics.in_flight += 1
        arrival = Arrival(self, session, answer, held)
        if session.refusal is not None:
            return arrival.rejected(session.refusal)
        if arrival.size > LARGE:
            steps = self._composer.steps(arrival.envelope, arrival.peer, session.pieces)
            task = asyncio.get_running_loop().create_task(self._compose_large(steps, arrival))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return None
        try:
            outgoing = self._composer.compose(arrival.envelope, arrival.peer, session.pieces)
        except Exception as error:
            return arrival.failed(error)
        return self._put(outgoing, arrival)

    async def _compose_large(self, steps: Steps, arrival: Arrival) -> None:
        async with self._turn:
            arrival.hold(2 * arrival.size)  # content and JSON
            try:
                while True:
                    next(steps)
                    await asyncio.sleep(0)
            except StopIteration as finished:
                reply = self._put(finished.value, arrival)
            except Exception as error:
                reply = arrival.failed(error)
        if reply is not None:
            arrival.answer(arrival.envelope, reply)

    def _put(self, outgoing: list[Outgoing], arrival: Arrival) -> Reply | None:
        arrival.outgoing = outgoing
        first = outgoing[0]
        arrival.hold(len(first.tail) + RECIPIENT * len(outgoing))
        try:
            self._sink.put(outgoing, arrival.done)
        except Exception as error:
            return arrival.failed(error)
        return None
