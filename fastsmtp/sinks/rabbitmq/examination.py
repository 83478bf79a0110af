"""What mail would meet at a broker: logs in and looks, creates and publishes nothing.

For `fastsmtp check --connect`. What AMQP does not tell without a publish stays unknown: an alarm,
permission to publish, whether the queue has a leader, whether it is bound to an exchange.
"""

import asyncio
from dataclasses import dataclass, field

from aio_pika.exceptions import ChannelClosed, ChannelNotFoundEntity

from fastsmtp.availability import Availability
from fastsmtp.settings import Settings
from fastsmtp.sinks.rabbitmq import underlay
from fastsmtp.sinks.rabbitmq.cluster import OPEN_TIMEOUT, Cluster
from fastsmtp.sinks.rabbitmq.failover import public
from fastsmtp.sinks.rabbitmq.limit import BodyLimit
from fastsmtp.sinks.rabbitmq.link import words
from fastsmtp.sinks.rabbitmq.underlay import Connection, RefusedError, is_ours


@dataclass(slots=True)
class Found:
    """What one address gave, in words without passwords."""

    address: str
    good: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)  # why mail is not accepted there; empty: it is


class Examination:
    """Looks at every address of the settings."""

    def __init__(self, settings: Settings) -> None:
        """Raises OSError or ValueError where the settings can never work."""
        underlay.check()
        underlay.quiet()
        self._declares = settings.rabbitmq_declare
        self._limit = BodyLimit(settings.rabbitmq_maxsize, Availability(settings.smtp_maxsize))
        self._cluster = Cluster(settings, self._limit)
        self._addresses = settings.rabbitmq_address
        self._topology = self._cluster.topology

    async def run(self) -> list[Found]:
        """One for each address, in their order."""
        return [await self._look(address) for address in self._addresses]

    async def _look(self, address: str) -> Found:
        found = Found(public(address))
        try:
            async with asyncio.timeout(OPEN_TIMEOUT):
                connection = await self._cluster.connect(address)
                try:
                    self._look_at_size(connection, found)
                    await self._look_at_exchange(connection, found)
                    await self._look_at_queue(connection, found)
                    if connection.is_blocked:
                        found.bad.append("has an alarm of memory or disk: mail is answered 452")
                finally:
                    await connection.hang_up()
        except RefusedError as error:
            found.bad.append(f"refused: {error}")
        except (Exception, asyncio.CancelledError) as error:
            if is_ours(error):
                raise
            what = "does not answer" if found.good else "cannot be reached"
            found.bad.append(f"{what}: {words(error)}")
        return found

    def _look_at_size(self, connection: Connection, found: Found) -> None:
        version = connection.server_version
        self._limit.connected(version)
        found.good.append(f"logged in; version {version or 'unknown'}; {self._limit}")

    async def _look_at_exchange(self, connection: Connection, found: Found) -> None:
        name = self._topology.exchange
        if not name:
            return
        what = f"exchange {name!r}"
        try:
            await self._topology.find_exchange(connection)
        except ChannelNotFoundEntity:
            if self._declares:
                found.good.append(
                    f"the {what} is missing and rabbitmq-declare is true: it will be declared"
                )
            else:
                found.bad.append(
                    f"the {what} is missing and rabbitmq-declare is false: mail will be answered "
                    "451 4.3.0"
                )
        except ChannelClosed as error:
            found.bad.append(f"refused a look at the {what}: {words(error)}")
        else:
            found.good.append(f"the {what} is there")

    async def _look_at_queue(self, connection: Connection, found: Found) -> None:
        what = f"queue {self._topology.queue!r}"
        if await self._topology.exists(connection):
            kind = await self._topology.queue_type(connection)
            found.good.append(f"the {f'{kind} {what}' if kind else what} is there")
            if self._topology.exchange and not self._declares:
                found.good.append("whether it is bound to the exchange shows with the first mail")
        elif not self._declares:
            found.bad.append(
                f"the {what} is missing and rabbitmq-declare is false: mail will be answered "
                "451 4.3.5 (unroutable)"
            )
        elif refusal := await self._topology.refusal(connection):
            found.bad.append(
                f"the {what} is missing and may not be declared: mail will be answered 451 4.3.5 "
                f"(unroutable): {refusal}"
            )
        else:
            found.good.append(
                f"the {what} is missing and rabbitmq-declare is true: it will be declared"
            )
