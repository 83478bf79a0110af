"""Why the broker nacks: the queue is full and says so, or nothing can be stored at this moment.

AMQP has no room for the reason. So one of the nacked messages is published once more, over a new
connection: a channel whose queue's leader has died nacks what a new one takes. Where that is
nacked, too, and the queue is there and holds messages, it refuses of its own accord; a quorum queue
without a majority of its members says that it holds none. One inquiry at a time answers for all.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp.background_tasks import BackgroundTasks
from fastsmtp.payload import Outgoing
from fastsmtp.replies import Reply
from fastsmtp.sinks.base import Outcomes
from fastsmtp.sinks.hedge import Hedge
from fastsmtp.sinks.rabbitmq.delivery import Delivery
from fastsmtp.sinks.spill_drain import Lane

log = logging.getLogger(__name__)

VALID = 5.0
"""Seconds for which it is known that the queue refuses."""

POLL_INTERVAL = 0.02
"""Seconds between two looks whether the new connection is up."""


class Counting(Lane, Protocol):
    """A lane that can be asked about the queue."""

    async def message_count(self) -> int | None:
        """How many messages the queue says it holds; None where there is none to ask."""


class SecondOpinion:
    """Of one worker; `patience` is rabbitmq-spill-after in seconds."""

    def __init__(
        self,
        open_lane: Callable[[], Counting],
        encoded: Callable[[Sequence[Outgoing]], Sequence[Outgoing]],
        patience: float,
    ) -> None:
        self._open_lane = open_lane
        self._encoded = encoded
        self._patience = patience
        self._asking: list[tuple[Hedge, int]] = []  # and the recipient's position
        self._refuses_until = 0.0  # monotonic
        self._tasks = BackgroundTasks()

    def ask(self, hedge: Hedge, position: int, row: Outgoing) -> bool:
        """Settle this recipient later; False where it is known that the queue refuses."""
        if now() < self._refuses_until:
            return False
        self._asking.append((hedge, position))
        if len(self._asking) == 1:
            self._tasks.start(self._inquire(row))
        return True

    async def close(self) -> None:
        """What is in doubt is stored."""
        self._tasks.cancel()
        await self._tasks.wait()

    async def _inquire(self, row: Outgoing) -> None:
        """Publish the row of the first one that asks, and answer all."""
        refuses = False
        outcome: Reply | None = replies.NOT_STORED
        try:
            lane = self._open_lane()
            try:
                async with asyncio.timeout(self._patience):
                    outcome = await self._publish(lane, row)
                    refuses = outcome is replies.NACKED and await lane.message_count() != 0
            finally:
                await lane.close()
        except TimeoutError:
            log.debug("a new connection gave no second opinion in time")
        finally:
            self._answer(outcome, refuses)

    async def _publish(self, lane: Counting, row: Outgoing) -> Reply | None:
        while not lane.takes_mail:  # noqa: ASYNC110
            await asyncio.sleep(POLL_INTERVAL)
        settled: asyncio.Future[Outcomes] = asyncio.get_running_loop().create_future()

        def settle(outcomes: Outcomes) -> None:
            if not settled.done():
                settled.set_result(outcomes)

        lane.put(self._encoded((row,)), Delivery(1, settle, _nothing))
        return (await settled)[0]

    def _answer(self, outcome: Reply | None, refuses: bool) -> None:
        asking, self._asking = self._asking, []
        if refuses:
            self._refuses_until = now() + VALID
        first, *others = asking
        if outcome is None:
            first[0].end_doubt(first[1], None)
        else:
            others.insert(0, first)
        for hedge, position in others:
            if refuses:
                hedge.end_doubt(position, replies.NACKED)
            else:
                hedge.store(position)


def _nothing() -> None:
    """Nobody waits for the end of this delivery."""
