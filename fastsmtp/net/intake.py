"""Answers `Message`: a finished message on its way to payload, sink and reply.

Takes messages from sessions, gives each its one reply. A message of ordinary size costs no task;
a large one, or one to many recipients, is composed in steps by a task of its own, so that nobody
waits for it.
"""

import asyncio
import logging

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp.background_tasks import BackgroundTasks
from fastsmtp.headers import RefusedError
from fastsmtp.net.answerer import Answered, Parts
from fastsmtp.payload import RECIPIENTS, Outgoing, Steps
from fastsmtp.questions import Message
from fastsmtp.refusals import Refusal
from fastsmtp.replies import Reply
from fastsmtp.sinks.base import Outcomes

log = logging.getLogger(__name__)

LARGE = 256 * 1024
"""Octets of content from which on a message is composed by a task."""

RECIPIENT = 512
"""Approximate bytes of the objects for each recipient, without the text of its prefix."""

FINGERPRINT = 128
"""The same of a fingerprint, where it has one."""


class InFlight:
    """One finished message, until its reply is known."""

    __slots__ = ("_begun", "_intake", "answered", "ids", "message")

    def __init__(self, intake: "Intake", message: Message, answered: Answered) -> None:
        self._intake = intake
        self._begun = now()
        self.answered = answered
        self.message = message
        self.ids: list[str] = []  # in the order of the envelope's recipients

    def hold(self, octets: int) -> None:
        """Report that so much of it is held now, besides the envelope."""
        claim = self.message.claim
        if claim is not None:
            claim.hold(octets + self.message.overhead)

    def settle(self, outcomes: Outcomes) -> None:
        """Make one reply of what became of its recipients."""
        refusal = _refusal(outcomes)
        self.answered(self.message, self._accept() if refusal is None else self.refuse(refusal))

    def fail(self, error: Exception) -> Reply:
        """Give the reply to a message that cannot be handed over."""
        if isinstance(error, RefusedError):
            return self.refuse(error.reply)
        log.error(
            "a message could not be handed over", exc_info=error, extra={"peer": self.message.peer}
        )
        return self.refuse(replies.INTERNAL)

    def refuse(self, reply: Reply) -> Reply:
        """Report that it is answered with `reply`, which is given back."""
        message = self.message
        refusal = Refusal(reply, message.peer, message.envelope, size=message.size)
        self._intake.refusals.tell(refusal)
        return self._end(reply, [])

    def _accept(self) -> Reply:
        metrics, message = self._intake.metrics, self.message
        metrics.messages += 1
        metrics.recipients += len(self.ids)
        metrics.octets += message.size
        metrics.message_sizes.add(message.size)
        stored = []
        for position, recipient in enumerate(message.envelope.recipients):
            stored.append((self.ids[position], recipient.mailbox))
        return self._end(replies.queued(stored), self.ids)

    def _end(self, reply: Reply, ids: list[str]) -> Reply:
        intake, message = self._intake, self.message
        intake.metrics.in_flight -= 1
        claim, message.claim = message.claim, None
        if claim is not None:
            claim.end()
        intake.metrics.reply_seconds.since(self._begun)
        if intake.is_watched:
            if intake.logs_messages and ids:
                log.info("accepted", extra=_about(message, ids))
            if intake.received_log is not None and ids:
                intake.received_log.accepted(ids, message, reply)
            log.debug("message answered: %r", reply, extra={"peer": message.peer, "ids": ids})
        return reply


def _refusal(outcomes: Outcomes) -> Reply | None:
    """The reply to a message of which not every recipient is stored; None where each one is.

    The client can only send the whole message again. A 4yz comes before a 5yz, so that it does.
    """
    refusal = None
    for outcome in outcomes:
        if outcome is not None and (refusal is None or refusal.code >= 500 > outcome.code):
            refusal = outcome
    return refusal


def _about(message: Message, ids: list[str]) -> dict[str, object]:
    """The fields of a log line about an accepted message."""
    return {
        "peer": message.peer,
        "envelope": message.envelope.sender,
        "size": message.size,
        "recipients": len(ids),
        "ids": ids,
    }


class Intake:
    """Every message that one worker is answering."""

    def __init__(self, parts: Parts) -> None:
        self.memory = parts.availability.memory
        self.metrics = parts.metrics
        self.refusals = parts.refusals
        self.received_log = parts.received_log
        self.logs_messages = parts.settings.log_messages and log.isEnabledFor(logging.INFO)
        tells = log.isEnabledFor(logging.DEBUG)
        self.is_watched = self.logs_messages or tells or self.received_log is not None
        self._composer = parts.composer
        self._sink = parts.sink
        self._tasks = BackgroundTasks()
        self._turn = asyncio.Lock()  # of a large message: one at a time is composed

    def ask(self, message: Message, answered: Answered) -> Reply | None:
        """See `answerers.Answerer`: 250 once the message is stored for every recipient."""
        self.metrics.in_flight += 1
        in_flight = InFlight(self, message, answered)
        if message.size > LARGE or len(message.envelope.recipients) > RECIPIENTS:
            steps = self._composer.steps(message.envelope, message.peer, message.pieces)
            self._tasks.start(self._compose_large(steps, in_flight))
            return None
        try:
            outgoing = self._composer.compose(message.envelope, message.peer, message.pieces)
        except Exception as error:
            return in_flight.fail(error)
        return self._put(outgoing, in_flight)

    async def _compose_large(self, steps: Steps, in_flight: InFlight) -> None:
        async with self._turn:
            try:
                while True:
                    next(steps)
                    await asyncio.sleep(0)
            except StopIteration as finished:
                reply = self._put(finished.value, in_flight)
            except Exception as error:
                reply = in_flight.fail(error)
        if reply is not None:
            in_flight.answered(in_flight.message, reply)

    def _put(self, outgoing: list[Outgoing], in_flight: InFlight) -> Reply | None:
        for each in outgoing:
            in_flight.ids.append(each.id)
        in_flight.hold(held(outgoing))
        try:
            self._sink.put(outgoing, in_flight.settle)
        except Exception as error:
            return in_flight.fail(error)
        return None


def held(outgoing: list[Outgoing]) -> int:
    """Bytes that a composed message takes, about."""
    first = outgoing[0]
    own = RECIPIENT + FINGERPRINT if first.fingerprint else RECIPIENT
    size = first.tail.held + own * len(outgoing)
    for each in outgoing:
        size += len(each.prefix)
    return size


def answerer(parts: Parts) -> Intake:
    """See `answerers.ANSWERERS`."""
    return Intake(parts)
