"""A finished message on its way: payload, sink, reply.

Takes messages from sessions, gives each its one reply. A message of ordinary size costs no task;
a large one is composed in steps by a task of its own, so that nobody waits for it.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp._session import Session
from fastsmtp.envelope import Envelope
from fastsmtp.headers import RefusedError
from fastsmtp.metrics import Metrics
from fastsmtp.payload import Composer, Outgoing, Steps
from fastsmtp.replies import Reply
from fastsmtp.sinks.base import Sink

log = logging.getLogger(__name__)

LARGE = 256 * 1024
"""Octets of content from which on a message is composed by a task."""

Answer = Callable[[Envelope, Reply], None]
"""Told the reply to the message that has this envelope."""


class Intake:
    """Every message that one worker is answering."""

    def __init__(self, composer: Composer, sink: Sink, metrics: Metrics) -> None:
        self._composer = composer
        self._sink = sink
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()  # of a large message: one at a time is composed

    def accept(self, session: Session, answer: Answer) -> Reply | None:
        """Take the finished message of a waiting session.

        Gives the reply where it is known at once; else `answer` is called with it, once, later.
        """
        begun = now()
        self._metrics.in_flight += 1
        envelope = session.envelope
        size = session.size
        steps = self._composer.compose(envelope, session.peer, session.pieces)
        if size > LARGE:
            task = asyncio.get_running_loop().create_task(
                self._compose_large(steps, envelope, size, begun, answer)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return None
        try:
            while True:
                next(steps)
        except StopIteration as finished:
            return self._put(finished.value, envelope, size, begun, answer)
        except Exception as error:
            return self._failed(error, begun)

    async def _compose_large(
        self, steps: Steps, envelope: Envelope, size: int, begun: float, answer: Answer
    ) -> None:
        async with self._turn:
            try:
                while True:
                    next(steps)
                    await asyncio.sleep(0)
            except StopIteration as finished:
                reply = self._put(finished.value, envelope, size, begun, answer)
            except Exception as error:
                reply = self._failed(error, begun)
        if reply is not None:
            answer(envelope, reply)

    def _failed(self, error: Exception, begun: float) -> Reply:
        if isinstance(error, RefusedError):
            return self._rejected(error.reply, begun)
        log.error("a message could not be handed over", exc_info=error)
        return self._rejected(replies.INTERNAL, begun)

    def _rejected(self, reply: Reply, begun: float) -> Reply:
        metrics = self._metrics
        metrics.in_flight -= 1
        metrics.reply_seconds.since(begun)
        metrics.reject(reply)
        return reply

    def _put(
        self,
        outgoing: list[Outgoing],
        envelope: Envelope,
        size: int,
        begun: float,
        answer: Answer,
    ) -> Reply | None:
        try:
            self._sink.put(outgoing, partial(self._done, outgoing, envelope, size, begun, answer))
        except Exception as error:
            return self._failed(error, begun)
        return None

    def _done(
        self,
        outgoing: list[Outgoing],
        envelope: Envelope,
        size: int,
        begun: float,
        answer: Answer,
        refusal: Reply | None,
    ) -> None:
        """The sink knows what became of a message."""
        if refusal is not None:
            answer(envelope, self._rejected(refusal, begun))
            return
        metrics = self._metrics
        metrics.in_flight -= 1
        metrics.reply_seconds.since(begun)
        metrics.messages += 1
        metrics.recipients += len(outgoing)
        metrics.octets += size
        reply = replies.queued(
            [
                (stored.id, recipient.mailbox)
                for stored, recipient in zip(outgoing, envelope.recipients, strict=True)
            ]
        )
        answer(envelope, reply)
