"""One connection to the broker, kept up: a line of addresses, back-off, another one beside it.

Gives its publisher a channel while there is one. Where the channel stores nothing, another address
is tried beside it; mail goes over the new channel once it is up, and what the old one owes is
settled on it. Mail never waits for a broker that is away: it is settled, and the presence tells
`Availability`.
"""

import asyncio
import logging
import random
from collections.abc import Sequence

from aio_pika.exceptions import ChannelClosed

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp.background_tasks import BackgroundTasks
from fastsmtp.payload import Outgoing
from fastsmtp.sinks.rabbitmq.channel import Channel
from fastsmtp.sinks.rabbitmq.cluster import Cluster
from fastsmtp.sinks.rabbitmq.counters import BrokerCounters
from fastsmtp.sinks.rabbitmq.delivery import Delivery
from fastsmtp.sinks.rabbitmq.failover import Address, first_up
from fastsmtp.sinks.rabbitmq.presence import Presence
from fastsmtp.sinks.rabbitmq.publisher import Publisher
from fastsmtp.sinks.rabbitmq.underlay import (
    Connection,
    RefusedError,
    Underlay,
    ViolationError,
    is_ours,
)
from fastsmtp.sinks.rabbitmq.unstored import Unstored

log = logging.getLogger(__name__)

FIRST_DELAY, LAST_DELAY = 0.1, 3.0
"""Seconds between rounds over all addresses: doubled each time, less a random half."""

FIRST_ROUND, LAST_ROUND = 1.0, 30.0
"""Seconds between rounds in which every address was up and stored nothing: doubled each time."""

REFUSALS = (RefusedError, ChannelClosed)
"""Errors that only a broker which was reached can give."""

CANCEL_INTERVAL = 0.5
"""Seconds until a task that goes on is cancelled again."""

Opened = tuple[Address, Connection, Underlay]


class Link:
    """One connection, from `start` to `close`."""

    def __init__(
        self,
        cluster: Cluster,
        presence: Presence,
        unstored: Unstored,
        metrics: BrokerCounters,
        number: int,
        bulk: bool = False,
        moves: bool = True,
    ) -> None:
        """`number` counts a worker's connections from 0; `bulk`: it is only for large bodies.

        `moves`: another address may be tried beside the one that is connected, which changes the
        order of messages.
        """
        self.tried = asyncio.Event()  # every address was tried once, or one is connected
        self._cluster = cluster
        self._presence = presence
        self._unstored = unstored
        self._metrics = metrics
        self._number = number
        self._bulk = bulk
        self._moves = moves
        self.publisher = self._make_publisher()  # takes the mail
        self._current: Channel | None = None  # that of `publisher`
        self._channels: set[Channel] = set()  # it, and those that still owe something
        self._wanted = asyncio.Event()  # a channel is to be opened
        self._seeking = False  # it is, beside the current one
        self._tried: set[Address] = set()  # in this round, and stored nothing
        self._next_round = 0.0  # monotonic
        self._round_delay = FIRST_ROUND
        self._delay = FIRST_DELAY
        self._hasty = False  # the last channel ended at once
        self._serving = BackgroundTasks()  # one for each channel
        self._others = BackgroundTasks()  # beside the channels'; `close` waits for them
        self._task: asyncio.Task[None] | None = None
        self._restart: asyncio.TimerHandle | None = None
        self._closing = False

    def start(self) -> None:
        """Begin to connect."""
        self._seeking = False
        if self._current is None:
            self._wanted.set()
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._on_end)

    async def close(self) -> None:
        """Let go of the connection; what is not settled is settled."""
        self._closing = True
        if self._restart is not None:
            self._restart.cancel()
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CANCEL_INTERVAL)
        self._serving.cancel()
        await self._serving.wait()
        self.publisher.settle_waiting(replies.NOT_STORED)
        await self._others.wait()

    @property
    def takes_mail(self) -> bool:
        """It is up, and nothing says that the broker would not store what is put."""
        current = self._current
        return (
            current is not None
            and self.publisher.is_open
            and not self.publisher.is_doubtful
            and not current.connection.is_blocked
        )

    def put(self, message: Sequence[Outgoing], delivery: Delivery) -> None:
        """Publish over it; it is up."""
        self.publisher.put(message, delivery)

    async def message_count(self) -> int | None:
        """How many messages the queue says it holds; None where there is none of that name."""
        current = self._current
        if current is None:
            return 0
        return await self._cluster.topology.message_count(current.connection)

    def expire(self, before: float) -> None:
        """Let go of what was put `before` (monotonic seconds): see `Publisher.expire`."""
        for publisher in {self.publisher, *(channel.publisher for channel in self._channels)}:
            publisher.expire(before)

    def _make_publisher(self) -> Publisher:
        cluster = self._cluster
        return Publisher(
            cluster.window, cluster.limit, self._metrics, self._unstored, cluster.encoder
        )

    def _on_end(self, task: "asyncio.Task[None]") -> None:
        """The connection's task never ends by itself: somebody cancelled it, or it has an error."""
        if not self._closing:
            error = None if task.cancelled() else task.exception()
            log.error("the connection's task ended and is started again", exc_info=error)
            self._restart = task.get_loop().call_later(LAST_DELAY, self.start)

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._hasty:
                self._hasty = False
                await self._back_off()
            await self._connect()

    async def _connect(self) -> None:
        """Try the addresses in their order, and again after a while, until one lets us in.

        Where there is a channel already, once.
        """
        while True:
            outcome = await first_up(self._line(), self._open, self._discard)
            opened, failed = outcome
            if opened is not None:
                self._use(*opened)
                return
            if self._current is not None:
                self._end_round(self._current)
                return
            self.publisher.settle_waiting(replies.NOT_STORED)
            tried = (f"{address} ({words(error)})" for address, error in failed.items())
            refused = any(isinstance(error, REFUSALS) for error in failed.values())
            self._presence.failed(self, ", ".join(tried), refused)
            self.tried.set()
            await self._back_off()

    def _line(self) -> list[Address]:
        """The addresses to try, in their order; beside a channel, those that may be better."""
        line = self._cluster.addresses.line(self._number)
        if self._current is None:
            return line
        taken = self._tried.union(each.address for each in self._channels if each.is_silent)
        return [address for address in line if address not in taken]

    async def _open(self, address: Address) -> Opened:
        return address, *await self._cluster.open(address.url)

    def _discard(self, attempt: "asyncio.Task[Opened]") -> None:
        self._others.start(drop(attempt))

    async def _back_off(self) -> None:
        await asyncio.sleep(self._delay * random.uniform(0.5, 1))
        self._delay = min(2 * self._delay, LAST_DELAY)

    def _use(self, address: Address, connection: Connection, underlay: Underlay) -> None:
        """Publish over a new channel; one that there is keeps what it has written."""
        old = self._current
        if old is not None:
            why = "nacks everything" if old.is_nacking else "confirms nothing"
            self._unstored.moved(str(old.address), why, str(address))
            self.publisher = self._make_publisher()
            self.publisher.adopt(old.publisher)
            old.retire()
        cluster, publisher = self._cluster, self.publisher
        channel = Channel(
            address,
            connection,
            underlay,
            publisher,
            self._presence,
            self._unstored,
            cluster.timeout,
        )
        channel.is_new = old is not None
        self._seeking = False
        self._current = channel
        self._channels.add(channel)
        self._metrics.broker_connects += 1
        publisher.attach(underlay, connection.abort)
        cluster.renewal.add(publisher)
        about = cluster.describe(connection)
        self._presence.connected(self, f"{address}, {about}", self._bulk)
        self.tried.set()
        self._serving.start(self._serve(channel))

    async def _serve(self, channel: Channel) -> None:
        """Look after a channel until it ends; everything on it is settled then."""
        began = now()
        reason: BaseException | None = None
        try:
            reason = await channel.watch(self._on_look)
        except Exception as error:
            log.exception("error while looking after a connection; it is given up")
            reason = error
        finally:
            self._end(channel, reason, now() - began)

    def _end(self, channel: Channel, reason: BaseException | None, lasted: float) -> None:
        """`reason` is None where the task was cancelled; `lasted` is in seconds."""
        self._channels.discard(channel)
        owed = channel.publisher.unconfirmed
        refused = owed if isinstance(reason, ChannelClosed) else 0
        goes_on = channel.publisher.detach(reason)
        self._cluster.renewal.remove(channel.publisher)
        channel.go_on()
        if refused and not goes_on:
            self._unstored.refused(refused, words(reason))
        lied = isinstance(reason, ViolationError)
        if lied:
            self._unstored.violated(str(channel.address), words(reason))
        if lied or (owed and not goes_on and not channel.has_stored):
            channel.address.stored_nothing()
        self._presence.unblocked(channel)
        if channel is self._current:
            self._current = None
            self._tried.clear()
            self._presence.disconnected(self, f"{channel.address}: {words(reason)}", refused > 0)
            if goes_on or lasted > LAST_DELAY:
                self._delay = FIRST_DELAY
            else:
                self._hasty = True
            self._wanted.set()
        self._others.start(self._leave(channel))

    def _on_look(self, channel: Channel) -> None:
        """Decide whether mail should go elsewhere."""
        if channel.has_acked:
            channel.address.stored()
        if channel is not self._current:
            return
        if not channel.is_silent and self._unstored.is_look_due():
            self._others.start(self._look_for_queue(channel.connection))
        if channel.has_acked:
            channel.is_new = False
            self._tried.clear()
            self._round_delay, self._next_round = FIRST_ROUND, 0.0
        elif channel.is_nacking or channel.is_silent:
            self._seek(channel)

    def _seek(self, channel: Channel) -> None:
        """Open another channel, as the current one stores nothing."""
        if not self._moves or self._seeking or now() < self._next_round:
            return
        channel.address.stored_nothing()
        # An old channel that only nacks says nothing of a new one to the same node.
        if channel.is_silent or channel.is_new:
            self._tried.add(channel.address)
        if not self._line():
            self._end_round(channel)
            return
        if channel.is_nacking:
            channel.hold()
        self._seeking = True
        self._wanted.set()

    def _end_round(self, channel: Channel) -> None:
        """No address is better: stay, and look again after a while."""
        if channel.is_nacking:
            self._unstored.nacked_everywhere(self._round_delay)
        self._seeking = False
        self._tried.clear()
        channel.is_new = False
        channel.go_on()
        self._next_round = now() + self._round_delay
        self._round_delay = min(2 * self._round_delay, LAST_ROUND)

    async def _leave(self, channel: Channel) -> None:
        """Let go of a connection; where it left publishes unconfirmed, log why first."""
        connection, silent = channel.connection, channel.silent
        if silent:
            finding = await self._cluster.topology.explain_silence(connection)
            self._unstored.explain(str(channel.address), silent, self._cluster.timeout, finding)
            connection.abort()
        await connection.hang_up()

    async def _look_for_queue(self, connection: Connection) -> None:
        try:
            if await self._cluster.renewal.look(connection):
                self._unstored.found()
        except (Exception, asyncio.CancelledError) as error:
            if is_ours(error):
                raise
            log.debug("looking for the queue", exc_info=True)


async def drop(attempt: "asyncio.Task[Opened]") -> None:
    """End an attempt to connect that nobody needs any more; aiormq may swallow cancellations."""
    while not attempt.done():
        attempt.cancel()
        await asyncio.wait([attempt], timeout=CANCEL_INTERVAL)
    if not attempt.cancelled() and attempt.exception() is None:
        _, connection, _ = attempt.result()
        await connection.hang_up()


def words(error: BaseException | None) -> str:
    """What an error says, for an operator."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return str(error) or type(error).__name__
