"""A sink as its users see it: put, wait for the answer. Holds it to `Sink`'s contract meanwhile."""

import asyncio
import contextlib
import functools
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvloop

from fastsmtp._tail import Tail
from fastsmtp.availability import Availability
from fastsmtp.counters import Snapshot
from fastsmtp.metrics import Metrics
from fastsmtp.payload import Outgoing
from fastsmtp.replies import Reply
from fastsmtp.route import Route
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Outcomes, Sink
from fastsmtp.sinks.broker import Broker
from fastsmtp.sinks.spill_counters import SpillCounters

MAXSIZE = 100 * 1024 * 1024


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on the loop that the product runs on."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        uvloop.run(test(*args, **kwargs))

    return run


class Client:
    """Puts messages; each must be settled once, and never inside `put`."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.prefix = uuid.uuid4().hex
        self.numbers = itertools.count()
        self.violations: list[str] = []

    def outgoing(
        self,
        body: Tail | bytes | bytearray,
        prefix: bytes = b"",
        priority: int | None = None,
        encoding: str = "",
        route: Route | None = None,
        fingerprint: str = "",
    ) -> Outgoing:
        id = f"{self.prefix}x{next(self.numbers)}"
        return Outgoing(id, priority, encoding, prefix, body, route, 0, fingerprint)

    def send(self, *message: Outgoing) -> "asyncio.Future[list[Reply | None]]":
        """Put one message; the future is what became of its recipients."""
        settled: asyncio.Future[list[Reply | None]] = asyncio.get_running_loop().create_future()
        inside = True

        def settle(outcomes: Outcomes) -> None:
            if inside:
                self.violations.append("settled inside put")
            if len(outcomes) != len(message):
                self.violations.append(f"{len(outcomes)} outcomes for {len(message)} recipients")
            if settled.done():
                self.violations.append("settled twice")
            else:
                settled.set_result(list(outcomes))

        self.sink.put(message, settle)
        inside = False
        return settled

    def put(self, body: bytes | bytearray, **more: Any) -> "asyncio.Future[Reply | None]":
        """Put a message for one recipient; the future is what became of it."""
        outcome: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        settled = self.send(self.outgoing(body, **more))
        settled.add_done_callback(lambda settled: outcome.set_result(settled.result()[0]))
        return outcome


class Opened:
    """A sink of RabbitMQ, with `rabbitmq_spill` around it or not, and what it writes."""

    def __init__(self, **settings: Any) -> None:
        self.availability = Availability(MAXSIZE)
        self.metrics = SpillCounters()
        self.sink = Broker().make(Settings(**settings), self.availability, self.metrics, 0)
        self.client = Client(self.sink)
        self.put = self.client.put
        self.send = self.client.send
        self.outgoing = self.client.outgoing

    def snapshot(self) -> Snapshot:
        """What its worker would tell the supervisor."""
        worker = Metrics()
        worker.include(self.metrics)
        return worker.snapshot(self.availability)


@contextlib.asynccontextmanager
async def opened(url: str, queue: str, **settings: Any) -> AsyncIterator[Opened]:
    """A sink that was started, and is closed at the end."""
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
