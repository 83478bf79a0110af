"""Answers `Message`: a finished message on its way to payload, sink and reply.

Takes messages from sessions, gives each its one reply. A message of ordinary size costs no task;
a large one is composed in steps by a task of its own, so that nobody waits for it.
"""

import asyncio
import logging

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp.background_tasks import BackgroundTasks
from fastsmtp.headers import RefusedError
from fastsmtp.net.answerer import Answered, Parts
from fastsmtp.payload import Outgoing, Steps
from fastsmtp.questions import Message
from fastsmtp.replies import Reply

log = logging.getLogger(__name__)

LARGE = 256 * 1024
"""Octets of content from which on a message is composed by a task."""

RECIPIENT = 512
"""Octets that a recipient takes, about, besides what all of a message share."""


class Arrival:
    """One finished message, until its reply is known."""

    __slots__ = ("_begun", "_intake", "answered", "message", "outgoing")

    def __init__(self, intake: "Intake", message: Message, answered: Answered) -> None:
        self._intake = intake
        self._begun = now()
        self.answered = answered
        self.message = message
        self.outgoing: list[Outgoing] = []  # in the order of the envelope's recipients

    def hold(self, octets: int) -> None:
        """So much of it is held now."""
        self._intake.memory.hold(octets - self.message.held)
        self.message.held = octets

    def done(self, refusal: Reply | None) -> None:
        """The sink knows what became of it."""
        self.answered(self.message, self.rejected(refusal) if refusal else self._stored())

    def failed(self, error: Exception) -> Reply:
        """It cannot be handed over: the reply."""
        if isinstance(error, RefusedError):
            return self.rejected(error.reply)
        log.error(
            "a message could not be handed over", exc_info=error, extra={"peer": self.message.peer}
        )
        return self.rejected(replies.INTERNAL)

    def rejected(self, reply: Reply) -> Reply:
        """Report that it is answered with `reply`, which is given back."""
        message = self.message
        self._intake.refusals.tell(reply, message.peer, message.envelope, None, message.size)
        return self._ended(reply, [])

    def _stored(self) -> Reply:
        metrics, message = self._intake.metrics, self.message
        metrics.messages += 1
        metrics.recipients += len(self.outgoing)
        metrics.octets += message.size
        stored = []
        for position, recipient in enumerate(message.envelope.recipients):
            outgoing = self.outgoing[position]
            stored.append((outgoing.id, recipient.mailbox))
        return self._ended(replies.queued(stored), self.outgoing)

    def _ended(self, reply: Reply, stored: list[Outgoing]) -> Reply:
        intake, message = self._intake, self.message
        intake.metrics.in_flight -= 1
        self.hold(0)
        intake.metrics.reply_seconds.since(self._begun)
        if intake.received_log is not None or intake.tells:
            ids = [outgoing.id for outgoing in stored]
            if intake.received_log is not None and ids:
                intake.received_log.accepted(ids, message, reply)
            log.debug("message answered: %r", reply, extra={"peer": message.peer, "ids": ids})
        return reply


class Intake:
    """Every message that one worker is answering."""

    def __init__(self, parts: Parts) -> None:
        self.memory = parts.availability.memory
        self.metrics = parts.metrics
        self.refusals = parts.refusals
        self.received_log = parts.received_log
        self.tells = log.isEnabledFor(logging.DEBUG)
        self._composer = parts.composer
        self._sink = parts.sink
        self._tasks = BackgroundTasks()
        self._turn = asyncio.Lock()  # of a large message: one at a time is composed

    def ask(self, message: Message, answered: Answered) -> Reply | None:
        """See `answerers.Answerer`: 250 once the message is stored for every recipient."""
        self.metrics.in_flight += 1
        arrival = Arrival(self, message, answered)
        if message.size > LARGE:
            steps = self._composer.steps(message.envelope, message.peer, message.pieces)
            self._tasks.start(self._compose_large(steps, arrival))
            return None
        try:
            outgoing = self._composer.compose(message.envelope, message.peer, message.pieces)
        except Exception as error:
            return arrival.failed(error)
        return self._put(outgoing, arrival)

    async def _compose_large(self, steps: Steps, arrival: Arrival) -> None:
        async with self._turn:
            arrival.hold(2 * arrival.message.size)  # content and JSON
            try:
                while True:
                    next(steps)
                    await asyncio.sleep(0)
            except StopIteration as finished:
                reply = self._put(finished.value, arrival)
            except Exception as error:
                reply = arrival.failed(error)
        if reply is not None:
            arrival.answered(arrival.message, reply)

    def _put(self, outgoing: list[Outgoing], arrival: Arrival) -> Reply | None:
        arrival.outgoing = outgoing
        first = outgoing[0]
        arrival.hold(len(first.tail) + RECIPIENT * len(outgoing))
        try:
            self._sink.put(outgoing, arrival.done)
        except Exception as error:
            return arrival.failed(error)
        return None


def answerer(parts: Parts) -> Intake:
    """See `answerers.ANSWERERS`."""
    return Intake(parts)
