"""RabbitMQ as a sink: which connection takes a message, and what is refused without asking it."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from fastsmtp import replies
from fastsmtp.availability import Availability
from fastsmtp.payload import Outgoing
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Settle
from fastsmtp.sinks.rabbitmq import compression, underlay
from fastsmtp.sinks.rabbitmq.cluster import Cluster
from fastsmtp.sinks.rabbitmq.counters import BrokerCounters
from fastsmtp.sinks.rabbitmq.delivery import Delivery
from fastsmtp.sinks.rabbitmq.limit import MIB, BodyLimit
from fastsmtp.sinks.rabbitmq.link import Link
from fastsmtp.sinks.rabbitmq.presence import Presence
from fastsmtp.sinks.rabbitmq.unstored import Unstored

log = logging.getLogger(__name__)

START_TIMEOUT = 5.0
"""Seconds that `start` gives the first attempt, so that mail may come in once it returns."""


class RabbitMQ:
    """The sink (`fastsmtp.sinks.base.Sink`) that is confirmed by a broker."""

    def __init__(
        self,
        settings: Settings,
        availability: Availability,
        metrics: BrokerCounters,
        worker: int = 0,
        *,
        in_order: bool = False,
    ) -> None:
        """Raises OSError or ValueError where it can never work as configured.

        `worker` counts from 0: each begins at another address.
        `in_order`: mail reaches the broker in the order of `put`, over one connection; so large
        bodies keep the others, and where they are compressed the event loop, waiting.
        """
        underlay.check()
        underlay.quiet()
        self._settings = settings
        self._metrics = metrics
        self._limit = BodyLimit(settings.rabbitmq_maxsize, availability)
        self._cluster = Cluster(settings, self._limit, worker)
        self._presence = Presence(availability, metrics)
        self._unstored = Unstored(settings, metrics)
        self._in_order = in_order
        self._gzip = settings.rabbitmq_encoding == "gzip"
        # One at a time: while it is compressed, a large body is in memory in both forms.
        self._large_compression = ThreadPoolExecutor(1, "gzip") if self._gzip else None
        self._links: list[Link] = []
        self._bulk: Link | None = None  # for large and unproven bodies
        self._turn = 0  # index of the connection that took the last message
        self._due = 0  # messages that are not settled
        self._drained: asyncio.Event | None = None  # set when none is due; made by `close`

    def __str__(self) -> str:
        return f"RabbitMQ at {self._cluster}"

    async def start(self) -> None:
        """Connect; returns once mail may come in, or the first attempt has failed."""
        self._loop = asyncio.get_running_loop()
        self._presence.start()
        publishers = 1 if self._in_order else self._settings.rabbitmq_publishers
        self._links = [self._link(number) for number in range(publishers)]
        if not self._in_order:
            self._bulk = self._link(publishers, bulk=True)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self.tried()
        except TimeoutError:
            log.debug("still connecting")

    async def tried(self) -> None:
        """Wait until mail may come in, or every address was tried in vain."""
        for link in self._all_links():
            await link.tried.wait()

    def _link(self, number: int, bulk: bool = False) -> Link:
        link = Link(
            self._cluster,
            self._presence,
            self._unstored,
            self._metrics,
            number,
            bulk,
            moves=not self._in_order,
        )
        link.start()
        return link

    def put(self, message: Sequence[Outgoing], settle: Settle) -> None:
        """See `Sink.put`."""
        self._due += 1
        delivery = Delivery(len(message), settle, self._on_settled)
        if self._drained is not None:
            self._loop.call_soon(delivery.settle_all, replies.NOT_STORED)
        elif not self._gzip:
            self._publish(message, delivery)
        elif self._in_order or message[0].tail.size <= compression.INLINE:
            self._publish(compression.compress(message), delivery)
        else:
            threads = None if message[0].tail.size <= MIB else self._large_compression
            work = self._loop.run_in_executor(threads, compression.compress, message)
            work.add_done_callback(lambda work: self._on_compressed(work, delivery))

    async def close(self) -> None:
        """See `Sink.close`; where it is cancelled, what is not settled is settled at once."""
        self._drained = asyncio.Event()
        try:
            while self._due:
                self._drained.clear()
                await self._drained.wait()
        finally:
            self._presence.close()
            await asyncio.gather(*(link.close() for link in self._all_links()))
            self._unstored.close()
            if self._large_compression is not None:
                self._large_compression.shutdown(wait=False)

    def _all_links(self) -> list[Link]:
        return self._links if self._bulk is None else [*self._links, self._bulk]

    def _publish(self, message: Sequence[Outgoing], delivery: Delivery) -> None:
        """Give it to a connection, or refuse it when the loop comes round."""
        largest = 0
        for outgoing in message:
            largest = max(largest, len(outgoing.prefix) + outgoing.tail.size)
        refusal = None
        if largest > self._limit.maximum:
            refusal = replies.TOO_LARGE
        elif self._presence.is_blocked:
            refusal = replies.NO_SPACE
        elif (link := self._link_for(largest)) is None:
            refusal = replies.NOT_STORED
        else:
            link.publisher.put(message, delivery)
        if refusal is not None:
            self._loop.call_soon(delivery.settle_all, refusal)

    def _link_for(self, size: int) -> Link | None:
        """Large and unproven bodies share no connection with ordinary mail."""
        bulk = self._bulk
        if bulk is not None and size > min(MIB, self._limit.proven):
            return bulk if bulk.publisher.is_open else None
        doubtful = None
        for _ in self._links:
            self._turn = (self._turn + 1) % len(self._links)
            link = self._links[self._turn]
            if link.publisher.is_open:
                if not link.publisher.is_doubtful:
                    return link
                doubtful = link
        return doubtful

    def _on_compressed(self, work: "asyncio.Future[list[Outgoing]]", delivery: Delivery) -> None:
        if work.cancelled() or work.exception() is not None:
            log.error(
                "error while compressing", exc_info=None if work.cancelled() else work.exception()
            )
            delivery.settle_all(replies.INTERNAL)
        else:
            self._publish(work.result(), delivery)

    def _on_settled(self) -> None:
        self._due -= 1
        if not self._due and self._drained is not None:
            self._drained.set()
