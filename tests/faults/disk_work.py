"""A process that works with a queue file and says what it does.

Arguments: WAY PATH MARKER SEED. WAY is a row of WAYS: a life of a queue file, or the same with a
promise broken. MARKER is the file "marker" on the recorded disk. It gets a line of JSON before each
step, a verb and ids, and one once the step has returned. A message's content follows from its id.
"""

import asyncio
import errno
import json
import os
import random
import sys
from collections.abc import Callable, Iterator

from fastsmtp._tail import Tail
from fastsmtp.availability import Availability
from fastsmtp.payload import Outgoing
from fastsmtp.sinks.base import Outcomes
from fastsmtp.sinks.embedded import Embedded
from fastsmtp.sinks.queue_counters import QueueCounters
from fastsmtp.sinks.store import Store
from tests.support.disk import Faults

SIZES = (0, 40, 2500, 2500, 9000, 60_000)
"""Bytes of a tail."""

HUGE = 1_100_000
"""Bytes of a tail that is written slice by slice."""

MAX_SIZE = 8 << 20
"""Of the queue file: one that becomes full."""


def message(name: str) -> list[Outgoing]:
    """The message with this name, "N.SIZE.RECIPIENTS"; the ids of its rows begin so."""
    _, size, recipients = map(int, name.split("."))
    tail = Tail.of(random.Random(name).randbytes(size))
    return [row(f"{name}.{n}", tail) for n in range(recipients)]


def row(id: str, tail: Tail) -> Outgoing:
    return Outgoing(id, None, "", f"prefix of {id}: ".encode(), tail)


class Work:
    """The steps, each between its two lines."""

    def __init__(self, path: str, marker: str, seed: int) -> None:
        self.path = path
        self.chance = random.Random(seed)
        self.count = seed * 1000
        self.stored: list[str] = []  # ids
        self.marker = os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.is_early = False  # says that mail is stored before it is

    def mark(self, verb: str, ids: list[str]) -> None:
        os.write(self.marker, json.dumps([verb, *ids]).encode() + b"\n")

    def name(self, size: int | None = None) -> str:
        self.count += 1
        size = self.chance.choice(SIZES) if size is None else size
        return f"{self.count}.{size}.{self.chance.choice((1, 1, 1, 3))}"

    def add(self, store: Store, *sizes: int | None) -> None:
        """Messages of these sizes (None: any) in one batch."""
        rows = [each for size in sizes for each in message(self.name(size))]
        ids = [each.id for each in rows]
        self.mark("put", ids)
        if self.is_early:
            self.mark("stored", ids)
        try:
            store.add(rows)
        except OSError as error:
            self.mark("failed", [str(error)])
        else:
            self.mark("stored", ids)
            self.stored += ids

    def delete(self, store: Store, number: int) -> None:
        gone = [self.stored.pop(self.chance.randrange(len(self.stored))) for _ in range(number)]
        self.mark("delete", gone)
        store.delete(gone)
        self.mark("deleted", gone)

    def purge(self, store: Store) -> None:
        self.stored = []
        gone = [entry.id for entry in store.entries(limit=1_000_000)]  # an earlier life's, too
        self.mark("delete", gone)
        store.purge()
        self.mark("deleted", gone)


def life(work: Work) -> None:
    """A first start, mail, and all that is done to a queue file."""
    store = Store(work.path, MAX_SIZE, create=True)
    for _ in range(3):
        work.add(store, None)
    work.add(store, *[None] * 5)
    work.delete(store, 2)
    store.checkpoint()
    work.add(store, HUGE, None)
    work.add(store, None)
    store.close()
    store = Store(work.path, MAX_SIZE, create=True)
    work.add(store, *[None] * 3)
    work.delete(store, len(work.stored) // 2)
    other = Store(work.path)
    work.add(store, None)
    other.checkpoint()
    work.purge(other)
    for _ in range(3):
        work.add(store, None, None)
    other.close()
    work.delete(store, 1)
    work.add(store, None)


def fill(work: Work) -> None:
    """A queue becomes full, is emptied in part, and is used again; its file gives room back."""
    store = Store(work.path, 2 << 20, create=True)
    for _ in range(14):
        work.add(store, 150_000)
    work.delete(store, len(work.stored) - 1)
    for _ in range(6):
        work.add(store, 150_000, 2500)
    work.purge(store)
    work.add(store, 150_000)


def early(work: Work) -> None:
    work.is_early = True
    life(work)


def unsynced(work: Work, how: str) -> None:
    """A life with another PRAGMA synchronous than the one that is promised."""
    ready = Store.__init__

    def opened(store: Store, *args: object, **options: bool) -> None:
        ready(store, *args, **options)  # type: ignore[arg-type]
        store._db.execute(f"PRAGMA synchronous = {how}")

    Store.__init__ = opened  # type: ignore[assignment,method-assign]
    life(work)


async def put(work: Work, sink: Embedded, number: int, in_flight: int) -> None:
    """Messages through a sink, several at once; each is said to be stored when it is settled."""
    loop = asyncio.get_running_loop()

    async def putter(names: Iterator[str]) -> None:
        for name in names:
            rows = message(name)
            future: asyncio.Future[Outcomes] = loop.create_future()
            work.mark("put", [each.id for each in rows])
            sink.put(rows, future.set_result)
            stored = {outcome is None for outcome in await future} == {True}
            work.mark("stored" if stored else "failed", [each.id for each in rows])

    names = (work.name() for _ in range(number))
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(putter(names))


def sink(work: Work) -> None:
    """The embedded queue's own thread under concurrent mail; ends as if killed."""

    async def main() -> None:
        sink = Embedded(work.path, MAX_SIZE, Availability(1 << 30), QueueCounters())
        await sink.start()
        await put(work, sink, 60, 8)

    asyncio.run(main())


def failed_syncs(work: Work, times: int) -> None:
    """Some fsyncs fail while mail comes in; then all is well again."""
    faults = Faults(os.environ["DISK_CONTROL"])

    async def main() -> None:
        sink = Embedded(work.path, MAX_SIZE, Availability(1 << 30), QueueCounters())
        await sink.start()
        for _ in range(3):
            await put(work, sink, 3, 1)
            faults.fail_syncs(times, errno.EIO)
            await put(work, sink, 2, 1)
            faults.heal()
            await put(work, sink, 3, 1)

    asyncio.run(main())


def failed_and_restarted(work: Work) -> None:
    """The disk fails, an operator restarts the daemon, and the disk works again."""
    faults = Faults(os.environ["DISK_CONTROL"])
    store = Store(work.path, MAX_SIZE, create=True)
    work.add(store, 2500)
    faults.fail_syncs()
    work.add(store, 9000)
    store.close()
    faults.heal()
    store = Store(work.path, MAX_SIZE, create=True)
    work.add(store, 2500)
    work.add(store, 2500)


def killed_at_first(work: Work) -> None:
    """The process ends when it has made the first folder."""
    os.fsync = lambda _: os._exit(0)  # type: ignore[assignment]
    Store(work.path, MAX_SIZE, create=True)


def failed_and_looked_at(work: Work) -> None:
    """The disk fails, and whoever opens the file first afterwards only looks at it."""
    faults = Faults(os.environ["DISK_CONTROL"])
    store = Store(work.path, MAX_SIZE, create=True)
    work.add(store, *[2500] * 10)
    store.checkpoint()
    work.add(store, 2500)
    for _ in range(4):
        faults.fail_syncs()
        work.add(store, 9000, 2500, 60_000)
        store.close()
        faults.heal()
        looker = Store(work.path)
        looker.span()
        looker.close()
        store = Store(work.path, MAX_SIZE, create=True)
        work.add(store, 2500)


WAYS: dict[str, Callable[[Work], None]] = {
    "life": life,
    "fill": fill,
    "sink": sink,
    "fails-once": lambda work: failed_syncs(work, 1),
    "fails-twice": lambda work: failed_syncs(work, 2),
    "fails-on": lambda work: failed_syncs(work, -1),
    "fails-and-restarts": failed_and_restarted,
    "fails-and-is-looked-at": failed_and_looked_at,
    "killed-at-first": killed_at_first,
    # Broken promises
    "early": early,
    "synchronous-off": lambda work: unsynced(work, "OFF"),
    "synchronous-normal": lambda work: unsynced(work, "NORMAL"),
}

if __name__ == "__main__":
    way, path, marker, seed = sys.argv[1:]
    WAYS[way](Work(path, marker, int(seed)))
    os._exit(0)  # as after kill -9: what is open stays as it is
