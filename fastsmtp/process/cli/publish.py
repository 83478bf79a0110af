"""`fastsmtp queue publish`: the embedded queue's mail to RabbitMQ, told to an operator.

Puts store, sink and drain together, shows how far it is on a terminal, hears signals, and says at
the end what became of the mail. Moves nothing itself: see `sinks/drain.py`.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

import uvloop

from fastsmtp import replies
from fastsmtp.availability import Availability
from fastsmtp.process.config import ConfigError
from fastsmtp.settings import Settings
from fastsmtp.sinks.drain import Drain
from fastsmtp.sinks.file_lock import DRAIN, OWNER, FileLock
from fastsmtp.sinks.rabbitmq import limit, presence, unstored
from fastsmtp.sinks.rabbitmq.counters import BrokerCounters
from fastsmtp.sinks.rabbitmq.sink import RabbitMQ
from fastsmtp.sinks.store import Store
from fastsmtp.sinks.store_errors import StoreDamagedError, StoreError

INTERVAL = 0.25
"""Seconds between two looks at the progress."""

BAR = 30
"""Columns of the progress bar."""

NO_ADDRESS = [
    "rabbitmq-address is none: say where to publish, with --rabbitmq-address "
    "amqp://user:password@host:port/vhost (or @FILE, for a file that holds it)"
]

WORDS = {
    replies.UNROUTABLE: "no queue takes it (unroutable)",
    replies.TOO_LARGE: "larger than RabbitMQ takes (rabbitmq-maxsize, max_message_size)",
    replies.NACKED: "RabbitMQ refused it (nack)",
    replies.NOT_STORED: "RabbitMQ did not confirm it",
}


def run(store: Store, settings: Settings) -> int:
    """Publish everything; gives the exit status. Raises ConfigError or OSError."""
    if not settings.rabbitmq_address:
        raise ConfigError(NO_ADDRESS, [])
    logging.basicConfig(format="fastsmtp: %(message)s", level=logging.WARNING)
    for module in (presence, unstored, limit):  # speak of mail that comes in; we ask `trouble`
        module.log.setLevel(logging.CRITICAL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is something to finish
    with _alone(store):
        try:
            publishing = _Publishing(store, settings)
        except ValueError as error:
            raise ConfigError([str(error)], []) from error
        return uvloop.run(publishing.run())


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Two at once would publish every message twice; a daemon publishes its spill itself."""
    lock = FileLock(store.path)
    try:
        if lock.is_taken(OWNER):
            raise BlockingIOError(
                f"{store.path} is the spill of a fastsmtp that runs, or ends (process "
                f"{lock.note()}): it publishes what is in it"
            )
        if not lock.take(DRAIN):
            raise BlockingIOError(f"a fastsmtp queue publish is at work on {store.path} already")
        yield
    finally:
        lock.close()


class _Publishing:
    """One run of the command."""

    def __init__(self, store: Store, settings: Settings) -> None:
        """Raises OSError or ValueError where the settings cannot work."""
        self._store = store
        self._availability = Availability(settings.smtp_maxsize)
        self._sink = RabbitMQ(settings, self._availability, BrokerCounters(), in_order=True)
        self._drain = Drain(store, self._sink, self._availability)
        self._interrupted = False

    async def run(self) -> int:
        """Gives the exit status."""
        total = await asyncio.to_thread(self._store.count)
        if not total:
            print(f"The queue {self._store.path} is empty.")
            return 0
        await self._sink.start()
        try:
            await self._sink.tried()
            if self._availability.refusal:
                _tell(f"{self._availability.trouble}; nothing was published")
                return 1
            return await self._publish(total)
        finally:
            # Answers that did not come while the drain waited are not worth more time.
            with suppress(TimeoutError):
                async with asyncio.timeout(0 if self._drain.in_flight else None):
                    await self._sink.close()

    def _interrupt(self) -> None:
        """The first signal ends it in peace, a second one at once."""
        if self._interrupted:
            os._exit(1)
        self._interrupted = True
        self._drain.stop()

    async def _publish(self, total: int) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt)
        watch = asyncio.create_task(self._watch(total)) if sys.stderr.isatty() else None
        troubles = []
        try:
            await self._drain.run()
        except StoreDamagedError as error:
            troubles.append(f"{error}; {await asyncio.to_thread(self._set_aside)}")
        except StoreError as error:
            troubles.append(str(error))
        finally:
            if watch:
                watch.cancel()
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        troubles += self._troubles()
        for line in troubles:
            _tell(line)
        await self._sum_up()
        return 1 if troubles else 0

    def _set_aside(self) -> str:
        """What reads no further would never publish what is behind it."""
        try:
            name = self._store.set_aside()
        except OSError as error:
            return f"it cannot be set aside: {error}"
        if name is None:
            return "it was set aside meanwhile"
        return (
            f"it is set aside as {name}: a daemon that runs recovers it, and logs that; "
            f'else "fastsmtp queue recover {name}". Then publish the rest'
        )

    def _troubles(self) -> Iterator[str]:
        """A line for everything that an operator should know."""
        drain = self._drain
        for id, reply in drain.reasons:
            yield f"{id} stays in the queue: {WORDS.get(reply) or reply.lines[0]}"
        if drain.refused > len(drain.reasons):
            yield f"and {drain.refused - len(drain.reasons)} more that RabbitMQ did not take"
        if drain.lost:
            yield self._availability.trouble or "RabbitMQ went away for a moment"
        if unknown := drain.lost + drain.in_flight:
            yield f"{unknown} of unknown fate stay in the queue; RabbitMQ may have some of them"
        if again := drain.stored - drain.deleted:
            yield f"{again} were published but not deleted: the next run publishes them again"
        if self._interrupted:
            yield "interrupted: run it again for what is left"

    async def _sum_up(self) -> None:
        stored = self._drain.stored
        line = f"{stored} {'message' if stored == 1 else 'messages'} published to {self._sink}"
        with suppress(StoreError):
            if left := await asyncio.to_thread(self._store.count):
                line += f"; {left} {'is' if left == 1 else 'are'} in the queue"
        print(line)

    async def _watch(self, total: int) -> None:
        """Draw the progress until cancelled."""
        begun = monotonic()
        while True:
            await asyncio.sleep(INTERVAL)
            done = self._drain.stored + self._drain.refused
            total = max(total, done)
            bar = "#" * (BAR * done // total)
            print(
                f"\r[{bar:{BAR}}] {done} of {total} messages, "
                f"{done / (monotonic() - begun):.0f}/s\x1b[K",
                end="",
                file=sys.stderr,
                flush=True,
            )


def _tell(line: str) -> None:
    print(f"fastsmtp: {line}", file=sys.stderr)
