"""One connection to the broker, kept up: every address of the cluster, back-off, watch.

Gives its publisher a channel while there is one. Mail never waits for a broker that is away: it is
settled, and the presence tells `Availability`.
"""

import asyncio
import logging
import random

from aio_pika.exceptions import ChannelClosed

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp.background_tasks import BackgroundTasks
from fastsmtp.sinks.rabbitmq.cluster import Cluster, public
from fastsmtp.sinks.rabbitmq.counters import BrokerCounters
from fastsmtp.sinks.rabbitmq.presence import Presence
from fastsmtp.sinks.rabbitmq.publisher import Publisher
from fastsmtp.sinks.rabbitmq.underlay import Connection, RefusedError, Underlay, is_ours
from fastsmtp.sinks.rabbitmq.unstored import Unstored

log = logging.getLogger(__name__)

FIRST_DELAY, LAST_DELAY = 0.1, 3.0
"""Seconds between rounds over all addresses: doubled each time, less a random half."""

REFUSALS = (RefusedError, ChannelClosed)
"""Errors that only a broker which was reached can give."""

CANCEL_INTERVAL = 0.5
"""Seconds until a task that goes on is cancelled again."""

WATCH_INTERVAL = 0.25
"""Seconds between two looks at a connection; less where rabbitmq-timeout is short."""


class Link:
    """One connection, from `start` to `close`."""

    def __init__(
        self,
        cluster: Cluster,
        presence: Presence,
        unstored: Unstored,
        metrics: BrokerCounters,
        window: int,
        bulk: bool = False,
    ) -> None:
        """`window` is in publishes; `bulk` where it is only for bodies that are large."""
        self.publisher = Publisher(
            window, cluster.limit, metrics, unstored, cluster.encoder, self._on_publisher_error
        )
        self.tried = asyncio.Event()  # every address was tried once, or one is connected
        self._cluster = cluster
        self._presence = presence
        self._unstored = unstored
        self._metrics = metrics
        self._bulk = bulk
        self._first = 0  # index of the address to try first
        self._delay = FIRST_DELAY
        self._connection: Connection | None = None
        self._silent = 0  # publishes that had no confirm in time, which ended the connection
        self._others = BackgroundTasks()  # beside the connection's; `close` waits for them
        self._task: asyncio.Task[None] | None = None
        self._restart: asyncio.TimerHandle | None = None
        self._closing = False

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._on_end)

    async def close(self) -> None:
        """Let go of the connection; what is not settled is settled."""
        self._closing = True
        if self._restart is not None:
            self._restart.cancel()
        while self._task is not None and not self._task.done():
            # aiormq turns a cancellation into the error of a channel that closes meanwhile.
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CANCEL_INTERVAL)
        await self._others.wait()

    def _on_end(self, task: "asyncio.Task[None]") -> None:
        """The connection's task never ends by itself: somebody cancelled it, or it has an error."""
        if not self._closing:
            error = None if task.cancelled() else task.exception()
            log.error("the connection's task ended and is started again", exc_info=error)
            self._restart = task.get_loop().call_later(LAST_DELAY, self.start)

    async def _run(self) -> None:
        while True:
            connection, underlay, address = await self._connect()
            try:
                await self._serve(connection, underlay, address)
            finally:
                self._others.start(self._leave(connection, public(address), self._silent))

    async def _connect(self) -> tuple[Connection, Underlay, str]:
        """Try every address, and again after a while, until one lets us in."""
        addresses = self._cluster.addresses
        while True:
            tried, refused = [], False
            for _ in addresses:
                address = addresses[self._first]
                try:
                    return *await self._cluster.open(address), address
                except (Exception, asyncio.CancelledError) as error:
                    if is_ours(error):
                        raise
                    log.debug("connecting", exc_info=True)
                    tried.append(f"{public(address)} ({words(error)})")
                    refused = refused or isinstance(error, REFUSALS)
                    self._first = (self._first + 1) % len(addresses)
            self.publisher.settle_waiting(replies.NOT_STORED)
            self._presence.failed(self, ", ".join(tried), refused)
            self.tried.set()
            await self._back_off()

    async def _back_off(self) -> None:
        await asyncio.sleep(self._delay * random.uniform(0.5, 1))
        self._delay = min(2 * self._delay, LAST_DELAY)

    async def _serve(self, connection: Connection, underlay: Underlay, address: str) -> None:
        """Publish until the channel ends; everything on it is settled then."""
        loop, publisher = asyncio.get_running_loop(), self.publisher
        began = loop.time()
        reason: BaseException | None = None
        self._connection = connection
        self._silent = 0
        self._metrics.broker_connects += 1
        try:
            publisher.attach(underlay)
            about = self._cluster.describe(connection)
            self._presence.connected(self, f"{public(address)}, {about}", self._bulk)
            self.tried.set()
            reason = await self._watch(connection, underlay, public(address))
        finally:
            self._connection = None
            refused = publisher.unconfirmed if isinstance(reason, ChannelClosed) else 0
            goes_on = publisher.detach(reason)
            if refused and not goes_on:
                self._unstored.refused(refused, words(reason))
            self._presence.disconnected(self, f"{public(address)}: {words(reason)}", refused > 0)
        if goes_on or loop.time() - began > LAST_DELAY:
            self._delay = FIRST_DELAY
        else:
            await self._back_off()

    async def _watch(self, connection: Connection, underlay: Underlay, where: str) -> BaseException:
        """Why the channel ended, or must end: nothing on it has moved for rabbitmq-timeout."""
        publisher = self.publisher
        timeout = self._cluster.timeout
        interval = max(0.01, min(WATCH_INTERVAL, timeout / 10))
        moved: tuple[int, int, int] | None = None
        still = 0.0  # seconds without any movement while something is due
        looked = now()
        while True:
            await asyncio.wait([underlay.closing], timeout=interval)
            passed, looked = min(now() - looked, 2 * interval), now()
            if underlay.closing.done():
                return underlay.reason
            refusal = replies.NOT_STORED
            if connection.is_blocked:
                self._presence.blocked(self)
                refusal = replies.NO_SPACE
                publisher.settle_waiting(refusal)
            else:
                self._presence.unblocked(self)
            if self._unstored.is_look_due():
                self._others.start(self._look_for_queue(connection))
            seen, moved = moved, (publisher.acks, publisher.nacks, publisher.drains)
            still = 0.0 if publisher.is_idle or seen != moved else still + passed
            if still >= timeout and not connection.is_blocked:
                self._silent = publisher.unconfirmed
                self._unstored.timed_out(self._silent, timeout)
                return TimeoutError(f"no confirm for {timeout:g} seconds")
            if still > timeout - 3 * interval and not connection.is_blocked:
                continue  # if nothing moves now, the connection's end settles them
            late = publisher.settle_old(looked - timeout, refusal)
            if late and not connection.is_blocked:
                self._unstored.timed_out(late, timeout)
                self._unstored.late(where, late, timeout)

    def _on_publisher_error(self) -> None:
        """The channel's state is unknown: drop it, `_watch` sees it close."""
        if self._connection is not None:
            self._connection.abort()

    async def _leave(self, connection: Connection, where: str, silent: int) -> None:
        """Let go of a connection; where it left `silent` publishes unconfirmed, log why first."""
        if silent:
            finding = await self._cluster.topology.explain_silence(connection)
            self._unstored.explain(where, silent, self._cluster.timeout, finding)
            connection.abort()
        await connection.hang_up()

    async def _look_for_queue(self, connection: Connection) -> None:
        try:
            if await self._cluster.topology.exists(connection):
                self._unstored.found()
        except (Exception, asyncio.CancelledError) as error:
            if is_ours(error):
                raise
            log.debug("looking for the queue", exc_info=True)


def words(error: BaseException | None) -> str:
    """What an error says, for an operator."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return str(error) or type(error).__name__
