"""Exchange and queue as the settings say, declared at every connect.

A declaration that the broker refuses closes its channel, so each is made on one of its own. What
exists with other arguments is used as it is; that is warned of once. A queue that is new is on the
broker's disk before mail goes there.
"""

import asyncio
import logging
import re
from contextlib import suppress

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import (
    ChannelClosed,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)
from pamqp.commands import Exchange, Queue
from pamqp.common import FieldTable

from fastsmtp.settings import Settings
from fastsmtp.sinks.rabbitmq.underlay import is_ours

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds for one declaration."""

LOOK_TIMEOUT = 3.0
"""Seconds that a broker which confirms nothing has for saying what is the matter."""

_FOUND = re.compile(r"inequivalent arg '([^']+)'.* current is (?:the value )?'?([\w-]+)", re.DOTALL)
"""In the text of a 406: the argument that differs, and what it is."""

LEADERLESS = (
    "RabbitMQ answers, but its quorum queue has no leader, or fewer than a majority of its members "
    "are up. `rabbitmq-queues quorum_status %s` names them: start the nodes that are down. Where a "
    "member was lost, restart its node; if that does not help, delete the queue, with all that is "
    "in it, and let it be declared again"
)

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
        self.is_missing = False  # nobody declares the queue, and it was not there when last seen
        self.declares = settings.rabbitmq_declare
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
        if not self.declares:
            if self.exchange:
                await self.find_exchange(connection)
            self.is_missing = not await self.exists(connection)
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
                await self.find_exchange(connection)
        existed = await self.exists(connection)
        if not existed:
            self._flushed.clear()
        try:
            declared = await self._declare_queue(connection)
            self.is_missing = not existed and not declared
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

    async def exists(self, connection: AbstractConnection) -> bool:
        """Whether the queue is there, whatever its arguments."""
        try:
            async with connection.channel() as channel:
                await channel.declare_queue(self.queue, passive=True, timeout=TIMEOUT)
        except ChannelNotFoundEntity:
            return False
        except ChannelClosed:  # another's exclusive one, no permission: declaring it tells
            return True
        return True

    async def message_count(self, connection: AbstractConnection) -> int | None:
        """How many messages the queue says it holds; None where there is no such queue.

        A quorum queue whose leader cannot be asked holds 0.
        """
        try:
            async with connection.channel() as channel:
                queue = await channel.declare_queue(self.queue, passive=True, timeout=TIMEOUT)
                return queue.declaration_result.message_count or 0
        except ChannelClosed:
            return None

    async def queue_type(self, connection: AbstractConnection) -> str:
        """Type of the queue, which exists: "classic", "quorum", "stream"; "" where it is not told.

        Creates nothing: the queue is declared with a type that no broker knows, so that the broker
        refuses, and names the one that it has. It compares the durability first.
        """
        for durable in (True, False):
            try:
                async with connection.channel() as channel:
                    await channel.declare_queue(
                        self.queue,
                        durable=durable,
                        arguments={"x-queue-type": "which"},
                        timeout=TIMEOUT,
                    )
            except ChannelClosed as error:
                found = _FOUND.search(str(error))
                if found and found[1] == "x-queue-type":
                    return "classic" if found[2] == "none" else found[2]
        return ""

    async def refusal(self, connection: AbstractConnection) -> str:
        """Why the queue, which is missing, could not be declared, in the broker's words; or "".

        Creates nothing: what is asked for is a queue that expires at once, which no broker makes.
        The broker looks at name and permissions first.
        """
        try:
            async with connection.channel() as channel:
                await channel.declare_queue(
                    self.queue, durable=True, arguments={"x-expires": 0}, timeout=TIMEOUT
                )
        except ChannelPreconditionFailed:
            return ""
        except ChannelClosed as error:
            return str(error)
        return ""

    async def explain_silence(self, connection: AbstractConnection) -> str:
        """Why nothing is confirmed over this connection, and what to do.

        The broker reads a connection in order: where it answers this, it has all the publishes.
        """
        try:
            async with asyncio.timeout(LOOK_TIMEOUT):
                if not await self.exists(connection):
                    return "The queue is missing"
                if await self.queue_type(connection) == "quorum":
                    return LEADERLESS % self.queue
        except (Exception, asyncio.CancelledError) as error:
            if is_ours(error):
                raise
            return "RabbitMQ does not answer anything else either: look at its log, disk and load"
        return "RabbitMQ answers, but stores nothing: look at its log and its disk"

    async def _flush(self, connection: AbstractConnection) -> None:
        """Have the broker write to its disk what was declared just now.

        RabbitMQ 3 says that a queue is declared when the transaction is in Mnesia's log, but that
        it was committed may stay in memory for two seconds, and what a quorum queue's files are
        called for half a second. A broker that is killed meanwhile takes the transaction as
        aborted, or finds no files: the mail in the queue is gone, confirmed or not. The next
        declaration's sync takes the transaction along; nothing but time helps a quorum queue.
        RabbitMQ 4 finds no files of such a quorum queue either: it has no leader then.
        """
        kind = self._settings.rabbitmq_queue_type or await self.queue_type(connection)
        if kind == "classic":
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

    async def find_exchange(self, connection: AbstractConnection) -> None:
        """Raises ChannelClosed where it is missing."""
        async with connection.channel() as channel:
            await channel.declare_exchange(self.exchange, passive=True, timeout=TIMEOUT)

    def _warn(self, what: str, error: ChannelClosed) -> None:
        if what not in self._warned:
            self._warned.add(what)
            log.warning("RabbitMQ refused to declare the %s, it is used as it is: %s", what, error)
