"""Exchange and queue as the settings say, declared at every connect.

A declaration that the broker refuses closes its channel, so each is made on one of its own. What
exists with other arguments is used as it is; that is warned of once. A queue that is new is on the
broker's disk before mail goes there.
"""

import asyncio
import logging
from contextlib import suppress

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelClosed, ChannelNotFoundEntity
from pamqp.commands import Exchange, Queue
from pamqp.common import FieldTable

from fastsmtp.settings import Settings

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds for one declaration."""

FLUSH_TIME = 3.0
"""Seconds after which a broker has written out what it keeps for two."""


class Topology:
    """What must exist before mail is published; shared by all connections of a worker."""

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError for a name that AMQP does not allow."""
        self._settings = settings
        self._warned: set[str] = set()
        self._flushed = asyncio.Event()  # no new queue is on its way to the broker's disk
        self._flushed.set()
        self.exchange = settings.rabbitmq_exchange
        self.queue = settings.rabbitmq_inbox
        try:
            Exchange.Declare(exchange=self.exchange)
            Queue.Declare(queue=self.queue)
        except ValueError as error:
            raise ValueError(f"rabbitmq-exchange or rabbitmq-inbox: {error}") from None

    def arguments(self) -> FieldTable:
        """Arguments of the queue."""
        settings = self._settings
        found: FieldTable = {}
        if settings.rabbitmq_queue_type:
            found["x-queue-type"] = settings.rabbitmq_queue_type
        if settings.rabbitmq_queue_type != "quorum":
            if settings.rabbitmq_lazy:
                found["x-queue-mode"] = "lazy"
            if settings.rabbitmq_maxpriority is not None:
                found["x-max-priority"] = settings.rabbitmq_maxpriority
        return found

    async def declare(self, connection: AbstractConnection) -> None:
        """Make what is missing; raises ChannelClosed where there is no exchange to publish to."""
        if not self._settings.rabbitmq_declare:
            if self.exchange:
                await self._find_exchange(connection)
            return
        durable = self._settings.rabbitmq_durable
        if self.exchange:
            try:
                async with connection.channel() as channel:
                    await channel.declare_exchange(
                        self.exchange, "direct", durable=durable, timeout=TIMEOUT
                    )
            except ChannelClosed as error:
                self._warn(f"exchange {self.exchange!r}", error)
                await self._find_exchange(connection)
        existed = await self._exists(connection)
        if not existed:
            self._flushed.clear()
        try:
            declared = await self._declare_queue(connection)
            if self.exchange:
                await self._bind(connection)
            if declared and not existed and durable:
                await self._flush(connection)
        finally:
            if not existed:
                self._flushed.set()
        await self._flushed.wait()  # where another connection has made it

    async def _declare_queue(self, connection: AbstractConnection) -> bool:
        """Whether the broker let us."""
        try:
            async with connection.channel() as channel:
                await channel.declare_queue(
                    self.queue,
                    durable=self._settings.rabbitmq_durable,
                    arguments=self.arguments(),
                    timeout=TIMEOUT,
                )
        except ChannelClosed as error:
            self._warn(f"queue {self.queue!r}", error)
            return False
        return True

    async def _exists(self, connection: AbstractConnection) -> bool:
        """Whether the queue is there, whatever its arguments."""
        try:
            async with connection.channel() as channel:
                await channel.declare_queue(self.queue, passive=True, timeout=TIMEOUT)
        except ChannelNotFoundEntity:
            return False
        except ChannelClosed:  # another's exclusive one, no permission: declaring it tells
            return True
        return True

    async def _flush(self, connection: AbstractConnection) -> None:
        """Have the broker write to its disk what was declared just now.

        RabbitMQ 3 says that a queue is declared when the transaction is in Mnesia's log, but that
        it was committed may stay in memory for two seconds, and what a quorum queue's files are
        called for half a second. A broker that is killed meanwhile takes the transaction as
        aborted, or finds no files: the mail in the queue is gone, confirmed or not. The next
        declaration's sync takes the transaction along; nothing but time helps a quorum queue.
        """
        if self._settings.rabbitmq_queue_type != "quorum":
            with suppress(ChannelClosed):  # no permission for it
                async with connection.channel() as channel:
                    other = await channel.declare_queue(
                        durable=True, exclusive=True, auto_delete=True, timeout=TIMEOUT
                    )
                    await other.delete(timeout=TIMEOUT)
                return
        await asyncio.sleep(FLUSH_TIME)

    async def _bind(self, connection: AbstractConnection) -> None:
        try:
            async with connection.channel() as channel:
                queue = await channel.get_queue(self.queue, ensure=False)
                await queue.bind(self.exchange, self.queue, timeout=TIMEOUT)
        except ChannelClosed as error:
            self._warn(f"binding of queue {self.queue!r} to exchange {self.exchange!r}", error)

    async def _find_exchange(self, connection: AbstractConnection) -> None:
        async with connection.channel() as channel:
            await channel.declare_exchange(self.exchange, passive=True, timeout=TIMEOUT)

    def _warn(self, what: str, error: ChannelClosed) -> None:
        if what not in self._warned:
            self._warned.add(what)
            log.warning("RabbitMQ refused to declare the %s, it is used as it is: %s", what, error)
