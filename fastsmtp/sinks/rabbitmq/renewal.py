"""A queue that was missing when mail came: declared anew, or looked for until somebody makes it.

RabbitMQ confirms what goes to a new queue before that is safe on its disk (see `Topology`). So all
publishers of the worker pause, what is on its way comes back, and they go on once it is safe.
"""

import asyncio

from fastsmtp.sinks.rabbitmq.publisher import Publisher
from fastsmtp.sinks.rabbitmq.topology import Topology
from fastsmtp.sinks.rabbitmq.underlay import Connection

SETTLE_TIMEOUT = 5.0
"""Seconds for what is on its way; where it takes longer, the next look tries again."""

POLL_INTERVAL = 0.01
"""Seconds between two looks whether it has come back."""


class Renewal:
    """Shared by all connections of a worker."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._publishers: set[Publisher] = set()  # that have a channel
        self._is_running = False  # all of them are paused

    def add(self, publisher: Publisher) -> None:
        """It has a channel from now on."""
        self._publishers.add(publisher)
        if self._is_running:
            publisher.pause()

    def remove(self, publisher: Publisher) -> None:
        """It has none any more."""
        self._publishers.remove(publisher)
        if self._is_running:
            publisher.resume()

    async def look(self, connection: Connection) -> bool:
        """Whether the queue is there now. Raises what the topology does, TimeoutError among it."""
        if self._is_running:
            return False
        if not self._topology.declares:
            return await self._topology.exists(connection)
        self._is_running = True
        try:
            for publisher in self._publishers:
                publisher.pause()
            async with asyncio.timeout(SETTLE_TIMEOUT):
                while any(publisher.unconfirmed for publisher in self._publishers):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_INTERVAL)
            # Not within a timeout: a queue that was made must be on disk before mail goes there.
            await self._topology.declare(connection)
        finally:
            self._is_running = False
            for publisher in self._publishers:
                publisher.resume()
        return not self._topology.is_missing
