"""Moves mail from one queue to another, and drops what it has moved before.

    python dedupe_mail.py amqp://guest:guest@localhost/ inbox outbox seen.db --fingerprint

A message is dropped if one with the same message-id was moved; with --fingerprint also if one with
the same header fingerprint was. The SQLite file seen.db remembers both for --window seconds.
Messages leave unchanged. Loses nothing: a message leaves the first queue when the broker has
confirmed it in the second and it is remembered. Whatever goes wrong ends the program with an error;
start it again, and it goes on. One that was confirmed and not remembered then is moved twice.
SIGTERM ends it in order. Takes the first queue for itself: a second one beside it could not know
what the first has moved.
"""

import argparse
import asyncio
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

BATCH = 100
"""Messages under way at a time; so many may be moved twice after a crash."""


class Seen:
    """Which messages were moved, on disk; what `commit` was not called for is forgotten."""

    def __init__(self, path: str, window: float, by_fingerprint: bool) -> None:
        self._window = window
        self._by_fingerprint = by_fingerprint
        self._latest = 0.0
        self._db = sqlite3.connect(path)
        self._db.executescript(
            "PRAGMA journal_mode = WAL;"
            "CREATE TABLE IF NOT EXISTS seen"
            " (key TEXT PRIMARY KEY, published REAL NOT NULL) WITHOUT ROWID;"
            "CREATE INDEX IF NOT EXISTS oldest ON seen (published);"
        )

    def add(self, message: AbstractIncomingMessage) -> bool:
        """Remember a message; False if it, or its like, was moved within the window."""
        keys, published = self._keys(message), _published(message)
        for key in keys:
            near = "SELECT 1 FROM seen WHERE key = ? AND abs(published - ?) <= ?"
            if self._db.execute(near, (key, published, self._window)).fetchone():
                return False
        rows = [(key, published) for key in keys]
        self._db.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", rows)
        self._latest = max(self._latest, min(published, time.time()))
        return True

    def remove(self, message: AbstractIncomingMessage) -> None:
        """Forget a message: it was not moved after all."""
        keys = [(key,) for key in self._keys(message)]
        self._db.executemany("DELETE FROM seen WHERE key = ?", keys)

    def commit(self) -> None:
        """Write it to the disk, without what is older than the window."""
        # Older than the latest message, not than now: while this program or fastsmtp does not run,
        # no mail is forgotten that is still to come again.
        self._db.execute("DELETE FROM seen WHERE published < ?", (self._latest - self._window,))
        self._db.commit()

    def _keys(self, message: AbstractIncomingMessage) -> list[str]:
        """What a message is recognised by; nothing: it is always moved."""
        fingerprint = message.headers.get("fingerprint") if self._by_fingerprint else None
        keys = {"id": message.message_id, "fingerprint": str(fingerprint or "")}
        return [f"{kind} {value}" for kind, value in keys.items() if value]


def _published(message: AbstractIncomingMessage) -> float:
    return message.timestamp.timestamp() if message.timestamp else time.time()


async def move(
    batch: list[AbstractIncomingMessage], channel: AbstractChannel, outbox: str, seen: Seen
) -> None:
    """Take a batch to its end; raises where the broker does not take one of it."""
    fresh = [message for message in batch if seen.add(message)]
    exchange = channel.default_exchange
    # Each returns when the broker has it, and raises if it refused it or has no such queue.
    moved = await asyncio.gather(
        *(exchange.publish(message, outbox, mandatory=True) for message in fresh),
        return_exceptions=True,
    )
    errors = []
    for message, outcome in zip(fresh, moved, strict=True):
        if isinstance(outcome, BaseException):
            seen.remove(message)
            errors.append(outcome)
    seen.commit()
    if errors:
        raise errors[0]  # all come again, and those that were moved are dropped then
    await batch[-1].ack(multiple=True)


async def batches(
    waiting: "asyncio.Queue[AbstractIncomingMessage | None]",
) -> AsyncIterator[list[AbstractIncomingMessage]]:
    """What waits, all at once, until None is among it."""
    over = False
    while not over:
        taken = [await waiting.get()]
        while not waiting.empty():
            taken.append(waiting.get_nowait())
        over = None in taken
        if batch := [message for message in taken if message is not None]:
            yield batch


async def main(url: str, inbox: str, outbox: str, seen: Seen) -> None:
    """Move mail until SIGTERM; raises when anything is wrong."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.set_qos(prefetch_count=BATCH)
        await channel.get_queue(outbox)  # an error now if it is not there
        queue = await channel.get_queue(inbox)
        waiting: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, waiting.put_nowait, None)
        channel.close_callbacks.add(lambda *_: waiting.put_nowait(None))
        await queue.consume(waiting.put, exclusive=True)
        async for batch in batches(waiting):
            await move(batch, channel, outbox, seen)
        if channel.is_closed:
            raise ConnectionError("the connection to RabbitMQ was lost")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("url", "inbox", "outbox", "file"):
        parser.add_argument(name)
    parser.add_argument("--fingerprint", action="store_true", help="drop what a client sent twice")
    parser.add_argument("--window", type=float, default=86400, help="seconds (a day)")
    given = parser.parse_args()
    remembered = Seen(given.file, given.window, given.fingerprint)
    try:
        asyncio.run(main(given.url, given.inbox, given.outbox, remembered))
    except aio_pika.exceptions.AMQPChannelError as error:
        sys.exit(f"{error}\nBoth queues must exist, and nobody else may read the inbox.")
    except ConnectionError as error:
        sys.exit(f"cannot connect to RabbitMQ: {error}\nIs it running? Is the address right?")
