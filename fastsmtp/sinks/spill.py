"""The sink around two others: mail goes to the broker, and into a file while it cannot.

Mail that the broker does not confirm in `rabbitmq-spill-after` is committed to the file and
answered. While the broker is well, nothing is written to the disk. What is in the file is published
beside new mail (`spill_drain`). Writes the availability of the worker: mail may come in as long as
the one or the other takes it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp.availability import Availability
from fastsmtp.payload import Outgoing
from fastsmtp.replies import Reply
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Outcomes, Settle
from fastsmtp.sinks.committer import Committer
from fastsmtp.sinks.file_lock import FileLock
from fastsmtp.sinks.hedge import Hedge
from fastsmtp.sinks.rabbitmq.sink import RabbitMQ
from fastsmtp.sinks.recovery import open_store
from fastsmtp.sinks.repair import Repair
from fastsmtp.sinks.second_opinion import SecondOpinion
from fastsmtp.sinks.spill_counters import SpillCounters
from fastsmtp.sinks.spill_drain import SpillDrain
from fastsmtp.sinks.spill_file import LIMIT, SpillFile, new_holder

log = logging.getLogger(__name__)

LOOK_INTERVAL = 0.1
"""Seconds between two looks for what has waited too long."""

SHORTEST_INTERVAL = 0.01
"""Seconds of it at least, however short rabbitmq-spill-after is."""

QUIET = 5.0
"""Seconds without mail for the file after which it is over, if the broker is well."""

LAST_WORDS = 1.0
"""Seconds that the broker has to confirm what the file holds already, when all else is done."""

RETRY = 1.0
"""Seconds until what is late is written again, where the file did not take it."""

UNSTORED = (replies.NOT_STORED, replies.NO_SPACE)
"""Outcomes of mail that the broker does not have, or of which nobody knows."""


class Spill:
    """The sink (`fastsmtp.sinks.base.Sink`) of one worker process."""

    def __init__(
        self, settings: Settings, availability: Availability, counters: SpillCounters, worker: int
    ) -> None:
        """Raises OSError or ValueError where it can never work as configured."""
        self._has_room = True
        self._retry_at = 0.0  # monotonic; until then the file is left alone, after an error
        self._availability = availability
        self._counters = counters
        self._patience = settings.rabbitmq_spill_after
        self._path = settings.rabbitmq_spill
        self._maxsize = settings.queue_maxsize
        self._window = settings.rabbitmq_throttle
        self._kinds = set(UNSTORED)
        if settings.rabbitmq_spill_unroutable:
            self._kinds.add(replies.UNROUTABLE)
        if settings.rabbitmq_spill_nacked:
            self._kinds.add(replies.NACKED)
        self._seen = Availability(settings.smtp_maxsize)  # what the broker says of itself
        self._broker = RabbitMQ(settings, self._seen, counters, worker, spills=True)
        self._max_body = 0  # octets, of the file
        self._limit = 0  # octets, that both take
        make = partial(SpillFile, self._path, self._maxsize, create=True)
        self._repair = Repair(self._path, make)
        self._remembered: int | None = None  # octets, the broker's limit as the file has it
        self._due = 0  # messages that are not settled
        self._held = 0  # rows that are, or will be
        self._holder: int | None = None  # this process's number, once it has one
        self._forgotten: list[str] = []  # ids of rows to delete
        self._released: list[str] = []  # and to release
        self._is_closing = False
        # Of the log
        self._since = 0.0  # monotonic; when mail began to go into the file; 0: it does not
        self._last = 0.0  # monotonic; when it last did
        self._rows = 0  # since then

    def __str__(self) -> str:
        return f"{self._broker}; while that is away, the spill {self._path}"

    async def start(self) -> None:
        """See `base.Sink.start`."""
        self._loop = asyncio.get_running_loop()
        self._lock = await asyncio.to_thread(self._open_lock)
        self._holder = new_holder(self._lock)
        self._committer = Committer(
            self._open_file,
            self._maxsize,
            self._path,
            self._counters.spill_seconds,
            self._on_room,
            self._counters.failed,
            self._repair.tell,
        )
        try:
            self._max_body = await self._committer.start()
        except OSError as error:
            raise OSError(f"rabbitmq-spill: {error}") from error
        except ValueError as error:
            raise ValueError(f"queue-maxsize: {error}") from error
        self._remembered = await asyncio.to_thread(self._recall)
        if self._remembered is not None:
            self._broker.assume_limit(self._remembered)
        await self._broker.start()
        self._drain = SpillDrain(
            self._open_file,
            self._lock,
            self._broker.lane,
            self._broker.encoded,
            self._window,
            self._patience,
            self._counters,
            self._repair.tell,
        )
        self._second_opinion = SecondOpinion(
            self._broker.lane, self._broker.encoded, self._patience
        )
        self._repair.start()
        self._look()
        self._tasks = [
            asyncio.create_task(self._watch()),
            asyncio.create_task(self._drain.run()),
        ]

    def _open_lock(self) -> FileLock:
        self._open_file().close()  # the lock stands beside it
        return FileLock(self._path)

    def _open_file(self) -> SpillFile:
        make = partial(SpillFile, self._path, self._maxsize, self._holder, create=True)
        return open_store(self._path, make, self._repair.tell)

    def _recall(self) -> int | None:
        file = self._open_file()
        try:
            return file.fact(LIMIT)
        finally:
            file.close()

    # Mail

    def put(self, message: Sequence[Outgoing], settle: Settle) -> None:
        """See `base.Sink.put`."""
        self._due += 1
        hedge = Hedge(message, settle, self._on_settled, self, self._loop)
        refusal = replies.NOT_STORED if self._is_closing else self._broker.offer(message, hedge)
        if refusal is not None:
            self._loop.call_soon(hedge.settle_all, refusal)

    def _on_settled(self) -> None:
        self._due -= 1

    # What a hedge asks for, see `hedge.Place`

    @property
    def takes_rows(self) -> bool:
        """See `hedge.Place`."""
        return self._has_room and now() >= self._retry_at

    def spills(self, refusal: Reply) -> bool:
        """See `hedge.Place`."""
        return refusal in self._kinds

    def doubt(self, hedge: Hedge, position: int, row: Outgoing) -> bool:
        """See `hedge.Place`."""
        return self._second_opinion.ask(hedge, position, row)

    def write(self, rows: Sequence[Outgoing], is_held: bool, settle: Settle) -> None:
        """See `hedge.Place`."""
        if any(row.size > self._max_body for row in rows):
            self._loop.call_soon(settle, [replies.NOT_STORED] * len(rows))
            return
        self._begin(len(rows))
        self._held += len(rows) if is_held else 0
        self._committer.put(rows, partial(self._written, is_held, settle), is_held)

    def _written(self, is_held: bool, settle: Settle, outcomes: Outcomes) -> None:
        if outcomes[0] is None:
            self._counters.spill_stored += len(outcomes)
        elif is_held:
            self._held -= len(outcomes)
            self._retry_at = now() + RETRY
        # What the file can never hold, the broker may take later.
        settle([replies.NOT_STORED if each is replies.TOO_LARGE else each for each in outcomes])

    def forget(self, id: str) -> None:
        """See `hedge.Place`."""
        self._held -= 1
        self._counters.spill_unsent += 1
        self._forgotten.append(id)

    def release(self, id: str) -> None:
        """See `hedge.Place`."""
        self._held -= 1
        self._counters.spill_repeated += 1
        self._released.append(id)

    def _change_rows(self) -> None:
        """Tell the file what the broker has said of rows."""
        forgotten, self._forgotten = self._forgotten, []
        released, self._released = self._released, []
        if forgotten or released:
            self._committer.run(partial(self._change, forgotten, released))

    def _change(self, forgotten: list[str], released: list[str], file: SpillFile) -> None:
        """Runs in the committer's thread."""
        try:
            file.delete(forgotten)
            forgotten = []
            file.release(released)
        except Exception:
            self._loop.call_soon_threadsafe(self._change_again, forgotten, released)
            raise

    def _change_again(self, forgotten: list[str], released: list[str]) -> None:
        self._forgotten += forgotten
        self._released += released
        self._retry_at = now() + RETRY

    # Whether mail may come in, and what the log says

    async def _watch(self) -> None:
        interval = max(SHORTEST_INTERVAL, min(LOOK_INTERVAL, self._patience / 8))
        while True:
            await asyncio.sleep(interval)
            self._broker.expire(now() - self._patience)
            if now() >= self._retry_at:
                self._change_rows()
            self._look()

    def _look(self) -> None:
        """Bring the availability up to date."""
        seen, availability = self._seen, self._availability
        is_well = seen.refusal is None
        limit = seen.body_limit if is_well else min(seen.body_limit, self._max_body)
        if limit != self._limit:
            self._limit = limit
            availability.limit_body(limit)
        if is_well and seen.body_limit != self._remembered:
            self._remembered = seen.body_limit
            self._committer.run(lambda file: file.remember(LIMIT, seen.body_limit))
        availability.is_refused = seen.is_refused
        availability.refusal = None if is_well or self._has_room else replies.NO_SPACE
        availability.trouble = "" if is_well else f"{seen.trouble}; {self._path} is full"
        if self._since and is_well and now() - self._last > QUIET:
            log.info(
                "spill: mail goes to RabbitMQ again; %d messages went into %s in %.0f s",
                self._rows,
                self._path,
                self._last - self._since,
            )
            self._since = 0.0

    def _begin(self, rows: int) -> None:
        """So many go into the file."""
        self._last = now()
        if not self._since:
            self._since, self._rows = self._last, 0
            why = self._seen.trouble or "RabbitMQ confirms mail too slowly, or does not store it"
            log.warning("spill: mail goes into %s: %s", self._path, why)
        self._rows += rows

    def _on_room(self, has_room: bool) -> None:
        self._has_room = has_room
        self._look()

    # The end

    async def close(self, grace: float = 0.0) -> None:
        """See `base.Sink.close`; for `grace` seconds, what the file holds is published."""
        self._is_closing = True
        end = now() + grace
        while self._due:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_INTERVAL)
        await self._until(self._drain.is_empty, end)
        await self._until(self._has_all_words, now() + LAST_WORDS)
        await self._drain.tell_what_stays()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._second_opinion.close()
        await self._broker.close()
        await asyncio.to_thread(self._repair.close)
        self._change_rows()
        await self._committer.close()
        self._lock.close()

    async def _until(self, is_done: Callable[[], Awaitable[bool]], end: float) -> None:
        """Wait for this until `end` (monotonic), if the broker is well."""
        while now() < end and self._seen.refusal is None and not await is_done():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_INTERVAL)

    async def _has_all_words(self) -> bool:
        return not self._held
