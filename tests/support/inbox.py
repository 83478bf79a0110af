"""Where a test's daemon puts mail, in both kinds: settings for it, and the JSON that is there."""

import asyncio
import itertools
from typing import Any, Protocol

import aio_pika
import orjson

from tests.support.daemon import Daemon
from tests.support.rabbitmq import Broker

_names = itertools.count()


class Inbox(Protocol):
    """One place for mail."""

    settings: dict[str, object]  # what the daemon is started with

    def messages(self, daemon: Daemon) -> list[dict[str, Any]]:
        """Everything that is in it, oldest first; `daemon` is the one that filled it."""


class RabbitmqInbox:
    """A queue of its own on a broker; `messages` empties it."""

    def __init__(self, broker: Broker) -> None:
        self.url = broker.url
        self.queue = f"inbox{next(_names)}"
        self.settings: dict[str, object] = {
            "rabbitmq_address": self.url,
            "rabbitmq_inbox": self.queue,
        }

    def messages(self, daemon: Daemon) -> list[dict[str, Any]]:
        return [orjson.loads(body) for body in asyncio.run(self.drain())]

    async def drain(self) -> list[bytes]:
        bodies: list[bytes] = []
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            queue = await channel.get_queue(self.queue, ensure=False)
            while last := await queue.get(no_ack=True, fail=False):
                bodies.append(last.body)
                # A quorum queue's count may be late: what comes beyond it goes back.
                if ready := await self.ready(channel):
                    async with queue.iterator() as deliveries:
                        async for message in deliveries:
                            await message.ack()
                            bodies.append(message.body)
                            if not (ready := ready - 1):
                                break
        return bodies

    async def ready(self, channel: aio_pika.abc.AbstractChannel) -> int:
        """About how many messages the queue has for a consumer."""
        queue = await channel.declare_queue(self.queue, passive=True)
        return queue.declaration_result.message_count or 0


class EmbeddedInbox:
    """The embedded queue, read in this process: a command would take a third of a second."""

    def __init__(self) -> None:
        self.settings: dict[str, object] = {"rabbitmq_address": "none"}

    def messages(self, daemon: Daemon) -> list[dict[str, Any]]:
        # Not above: nothing of fastsmtp is imported before its machine code was looked at.
        from fastsmtp.sinks.store import Store

        store = Store(str(daemon.folder / str(daemon.settings["queue_file"])))
        try:
            entries = store.entries(limit=1_000_000)
            return [orjson.loads(bytes(store.get(entry.id) or b"")) for entry in entries]
        finally:
            store.close()

    def last(self, daemon: Daemon) -> dict[str, Any]:
        """The message that was stored last."""
        return self.messages(daemon)[-1]
