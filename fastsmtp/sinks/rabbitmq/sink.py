"""RabbitMQ as a sink: which connection takes a message, and what is refused without asking it."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp.availability import Availability
from fastsmtp.payload import Outgoing
from fastsmtp.replies import Reply
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Settle
from fastsmtp.sinks.rabbitmq import compression, underlay
from fastsmtp.sinks.rabbitmq.cluster import Cluster
from fastsmtp.sinks.rabbitmq.counters import BrokerCounters
from fastsmtp.sinks.rabbitmq.delivery import Delivery
from fastsmtp.sinks.rabbitmq.limit import MIB, BodyLimit
from fastsmtp.sinks.rabbitmq.link import Link
from fastsmtp.sinks.rabbitmq.presence import Presence
from fastsmtp.sinks.rabbitmq.publisher import Publisher
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
        spills: bool = False,
    ) -> None:
        """Raises OSError or ValueError where it can never work as configured.

        `worker` counts from 0: each begins at another address.
        `in_order`: mail reaches the broker in the order of `put`, over one connection; so large
        bodies keep the others, and where they are compressed the event loop, waiting.
        `spills`: what cannot be stored here is stored elsewhere, as the log says.
        """
        underlay.check()
        underlay.quiet()
        self._settings = settings
        self._metrics = metrics
        self._limit = BodyLimit(settings.rabbitmq_maxsize, availability)
        self._cluster = Cluster(settings, self._limit, worker)
        self._presence = Presence(availability, metrics, spills)
        self._unstored = Unstored(settings, metrics, spills)
        self._in_order = in_order
        self._gzip = settings.rabbitmq_encoding == "gzip"
        # One at a time: while it is compressed, a large body is in memory in both forms.
        self._large_compression = ThreadPoolExecutor(1, "gzip") if self._gzip else None
        self._links: list[Link] = []
        self._bulk: Link | None = None  # for large and unproven bodies
        self._turn = 0  # index of the connection that took the last message
        self._compressing: dict[Delivery, float] = {}  # and since when, monotonic
        self._due = 0  # messages of `put` that are not settled
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
        refusal = replies.NOT_STORED if self._drained else self.offer(message, delivery)
        if refusal is not None:
            self._loop.call_soon(delivery.settle_all, refusal)

    def offer(self, message: Sequence[Outgoing], delivery: Delivery) -> Reply | None:
        """Take a message, which `delivery` is told of later, or say why not."""
        if not self._gzip:
            return self._publish(message, delivery)
        if self._in_order or message[0].tail.size <= compression.INLINE:
            return self._publish(compression.compress(message), delivery)
        threads = None if message[0].tail.size <= MIB else self._large_compression
        self._compressing[delivery] = now()
        work = self._loop.run_in_executor(threads, compression.compress, message)
        work.add_done_callback(lambda work: self._on_compressed(work, delivery))
        return None

    def expire(self, before: float) -> None:
        """Let go of what was offered `before` (monotonic seconds): see `Publisher.expire`."""
        for delivery, since in list(self._compressing.items()):
            if since <= before:
                del self._compressing[delivery]
                delivery.settle_all(replies.NOT_STORED)
        for link in self._all_links():
            link.expire(before)

    def encoded(self, message: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """What is published of it. Takes a while, and may be called in any thread."""
        return compression.compress(message) if self._gzip else message

    def assume_limit(self, maximum: int) -> None:
        """Take bodies of so many octets until the broker says what it takes."""
        self._limit.assume(maximum)

    def lane(self) -> Link:
        """A connection of its own, for mail that is not new; the caller closes it."""
        return self._link(self._settings.rabbitmq_publishers + 1, bulk=True)

    async def close(self, grace: float = 0.0) -> None:
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

    def _publish(self, message: Sequence[Outgoing], delivery: Delivery) -> Reply | None:
        """Give it to a connection, or say why not."""
        largest = 0
        for outgoing in message:
            largest = max(largest, len(outgoing.prefix) + outgoing.tail.size)
        if largest > self._limit.maximum:
            return replies.TOO_LARGE
        if self._presence.is_blocked:
            return replies.NO_SPACE
        link = self._link_for(largest)
        if link is None:
            return replies.NOT_STORED
        link.publisher.put(message, delivery)
        return None

    def _link_for(self, size: int) -> Link | None:
        """Large and unproven bodies share no connection with ordinary mail."""
        bulk = self._bulk
        if bulk is not None and size > min(MIB, self._limit.proven):
            return bulk if bulk.publisher.is_open and takes(bulk.publisher) else None
        doubtful = None
        for _ in self._links:
            self._turn = (self._turn + 1) % len(self._links)
            link = self._links[self._turn]
            if link.publisher.is_open and takes(link.publisher):
                if not link.publisher.is_doubtful:
                    return link
                doubtful = link
        return doubtful

    def _on_compressed(self, work: "asyncio.Future[list[Outgoing]]", delivery: Delivery) -> None:
        if self._compressing.pop(delivery, None) is None:
            return  # it has taken too long
        refusal: Reply | None = replies.INTERNAL
        if work.cancelled() or work.exception() is not None:
            log.error(
                "error while compressing", exc_info=None if work.cancelled() else work.exception()
            )
        else:
            refusal = self._publish(work.result(), delivery)
        if refusal is not None:
            delivery.settle_all(refusal)

    def _on_settled(self) -> None:
        self._due -= 1
        if not self._due and self._drained is not None:
            self._drained.set()


def takes(publisher: Publisher) -> bool:
    """Whether new mail is not better off elsewhere."""
    return not publisher.is_late or publisher.takes_sample
