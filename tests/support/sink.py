"""A sink as its users see it: put, wait for the answer. Holds it to `Sink`'s contract meanwhile."""

import asyncio
import contextlib
import functools
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvloop

from fastsmtp.availability import Availability
from fastsmtp.metrics import Metrics
from fastsmtp.payload import Outgoing
from fastsmtp.replies import Reply
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Sink
from fastsmtp.sinks.rabbitmq.sink import RabbitMQ

MAXSIZE = 100 * 1024 * 1024


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on the loop that the product runs on."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        uvloop.run(test(*args, **kwargs))

    return run


class Client:
    """Puts messages; every answer must come once, and never inside `put`."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.prefix = uuid.uuid4().hex
        self.numbers = itertools.count()
        self.violations: list[str] = []

    def outgoing(
        self, body: bytes | bytearray, prefix: bytes = b"", priority: int | None = None, encoding=""
    ) -> Outgoing:
        return Outgoing(f"{self.prefix}x{next(self.numbers)}", priority, encoding, prefix, body)

    def send(self, *message: Outgoing) -> "asyncio.Future[Reply | None]":
        """Put one message; the future is its answer."""
        answer: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        inside = True

        def done(reply: Reply | None) -> None:
            if inside:
                self.violations.append("answered inside put")
            if answer.done():
                self.violations.append("answered twice")
            else:
                answer.set_result(reply)

        self.sink.put(message, done)
        inside = False
        return answer

    def put(self, body: bytes | bytearray, **more: Any) -> "asyncio.Future[Reply | None]":
        """One recipient."""
        return self.send(self.outgoing(body, **more))


class Opened:
    """A started sink and what it writes."""

    def __init__(self, **settings: Any) -> None:
        self.availability = Availability(MAXSIZE)
        self.metrics = Metrics()
        self.sink = RabbitMQ(Settings(**settings), self.availability, self.metrics)
        self.client = Client(self.sink)
        self.put = self.client.put
        self.send = self.client.send
        self.outgoing = self.client.outgoing


@contextlib.asynccontextmanager
async def opened(url: str, queue: str, **settings: Any) -> AsyncIterator[Opened]:
    """A RabbitMQ sink that was started, and is closed at the end."""
    made = Opened(rabbitmq_address=tuple(url.split(",")), rabbitmq_inbox=queue, **settings)
    await made.sink.start()
    try:
        yield made
    finally:
        await made.sink.close()
        assert made.client.violations == []


async def eventually(condition: Callable[[], bool], seconds: float) -> None:
    """Until `condition` holds; AssertionError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
