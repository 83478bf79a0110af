"""A server between us and a broker, which lets a test touch or keep what the broker says."""

import asyncio
import contextlib
from collections.abc import Callable

from tests.support.rabbitmq import Broker


class Between:
    """Use `async with`; everything passes until a test sets `change`."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.change: Callable[[bytes], bytes] = bytes
        self.kept = b""
        self.writers: list[asyncio.StreamWriter] = []  # to us
        self.tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Between":
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        self.url = f"amqp://guest:guest@127.0.0.1:{port}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def keep(self) -> None:
        """From now on nothing that the broker says arrives, until `release`."""
        self.change = self.hold

    def hold(self, octets: bytes) -> bytes:
        self.kept += octets
        return b""

    def release(self) -> None:
        """Say what was kept on the connection that was opened last."""
        self.change = bytes
        self.writers[-1].write(self.kept)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.broker.port)
        self.writers.append(writer)
        ways = [(reader, back, bytes), (there, writer, lambda octets: self.change(octets))]
        self.tasks.update(asyncio.create_task(carry(*way)) for way in ways)


async def carry(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, change: Callable[[bytes], bytes]
) -> None:
    """Until `source` ends; then `target` does."""
    with contextlib.closing(target), contextlib.suppress(OSError):
        while octets := await source.read(65536):
            target.write(change(octets))
