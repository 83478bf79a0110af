"""The embedded queue: accepted mail goes into a SQLite file (`store`), no broker needed.

Keeps the contract `base.Sink`. One thread owns the file and commits what arrived while the last
commit ran (group commit); 250 may be said only after that. Knows nothing of how rows lie on disk.
Several processes may share one file: SQLite lets their commits take turns.
"""

import asyncio
import logging
from collections.abc import Sequence
from threading import Thread
from time import monotonic

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp.availability import Availability
from fastsmtp.payload import Outgoing
from fastsmtp.replies import Reply
from fastsmtp.sinks.arrivals import Arrivals, Put
from fastsmtp.sinks.base import Outcomes, Settle
from fastsmtp.sinks.queue_counters import QueueCounters
from fastsmtp.sinks.store import Store
from fastsmtp.sinks.store_errors import StoreFullError

RETRY = 1.0
"""Seconds between two looks for room while the disk, or the queue, is full."""

Settled = tuple[Settle, Outcomes]

log = logging.getLogger(__name__)


class Embedded:
    """A sink into the file `path`, which with its WAL takes at most `maxsize` octets of disk."""

    def __init__(
        self, path: str, maxsize: int, availability: Availability, counters: QueueCounters
    ) -> None:
        # The event loop's
        self._availability = availability
        self._max_body = 0  # octets
        self._open = False
        self._ended = asyncio.Event()  # the thread has settled everything
        # Both sides'
        self._path = path
        self._maxsize = maxsize
        self._arrivals = Arrivals()
        # The thread's
        self._commit_seconds = counters.commit_seconds
        self._store: Store | None = None  # None after an error, until the next attempt
        self._full = False
        self._next_look = 0.0  # monotonic; for room, while full
        self._trouble = ""  # the error that was logged and has not passed

    def __str__(self) -> str:
        return f"the queue file {self._path}"

    async def start(self) -> None:
        """Open the file, or create it with its folder. Raises OSError or ValueError."""
        self._loop = asyncio.get_running_loop()
        try:
            self._store = await asyncio.to_thread(self._opened)
        except OSError as error:
            raise OSError(f"queue-file: {error}") from error
        except ValueError as error:
            raise ValueError(f"queue-maxsize: {error}") from error
        self._max_body = self._store.max_body
        self._availability.limit_body(self._max_body)
        self._open = True
        Thread(target=self._run, name="queue", daemon=True).start()

    def put(self, message: Sequence[Outgoing], settle: Settle) -> None:
        """See `base.Sink.put`."""
        if not self._open:
            self._loop.call_soon(settle, [replies.NOT_STORED] * len(message))
        elif any(row.size > self._max_body for row in message):
            self._loop.call_soon(settle, [replies.TOO_LARGE] * len(message))
        else:
            self._arrivals.put((message, settle))

    async def close(self) -> None:
        """See `base.Sink.close`; the WAL goes into the file, unless others still use it."""
        if self._open:
            self._open = False
            self._arrivals.close()
            await self._ended.wait()

    def _settle(self, settled: list[Settled]) -> None:
        for settle, outcomes in settled:
            try:
                settle(outcomes)
            except Exception:
                log.exception("error in what follows a message")  # the others must be settled

    def _refuse(self, reply: Reply | None) -> None:
        """Refuse mail with `reply`, or accept it unless it is refused for another reason."""
        if reply or self._availability.refusal is replies.NO_SPACE:
            self._availability.refusal = reply

    # What follows runs in the thread.

    def _run(self) -> None:
        while (batch := self._arrivals.batch(RETRY if self._full else None)) is not None:
            if batch:
                self._loop.call_soon_threadsafe(self._settle, self._commit(batch))
                batch.clear()  # or it stayed in memory while the next one is waited for
            if self._full and monotonic() >= self._next_look:
                self._look_for_room()
        if self._store:
            self._store.close()
        self._loop.call_soon_threadsafe(self._ended.set)

    def _commit(self, batch: list[Put]) -> list[Settled]:
        """Store the batch; where it does not fit, message by message."""
        try:
            begun = now()
            self._opened().add([row for message, _ in batch for row in message])
            self._commit_seconds.since(begun)
        except StoreFullError as error:
            if len(batch) > 1:
                return [settled for one in batch for settled in self._commit([one])]
            return _all(batch, self._no_room(error, batch[0][0]))
        except Exception as error:  # whatever it is, the senders keep their mail
            self._fail(error)
            return _all(batch, replies.NOT_STORED)
        self._recover()
        return _all(batch, None)

    def _opened(self) -> Store:
        if self._store is None:
            self._store = Store(self._path, self._maxsize, create=True)
        return self._store

    def _no_room(self, error: StoreFullError, rows: Sequence[Outgoing]) -> Reply:
        """The reply to a message that does not fit; smaller ones are taken where they do."""
        try:
            store = self._opened()
            if not store.can_hold(rows):
                return replies.TOO_LARGE
            if self._has_room(store):
                return replies.NO_SPACE
        except StoreFullError:
            pass
        except Exception as other:
            self._fail(other)
            return replies.NOT_STORED
        self._fill(error)
        return replies.NO_SPACE

    def _has_room(self, store: Store) -> bool:
        """Whether mail of ordinary size fits."""
        return store.room() >= min(1 << 20, self._maxsize // 4)

    def _fill(self, error: StoreFullError) -> None:
        if not self._full:
            self._full = True
            self._next_look = monotonic() + RETRY
            log.error("%s: mail gets 452 until there is room", error)
            self._loop.call_soon_threadsafe(self._refuse, replies.NO_SPACE)

    def _look_for_room(self) -> None:
        self._next_look = monotonic() + RETRY
        try:
            store = self._opened()
            store.checkpoint()
            has_room = self._has_room(store)
        except StoreFullError:
            return
        except Exception as error:
            self._fail(error)
            return
        if has_room:
            self._full = False
            log.info("%s has room again", self)
            self._loop.call_soon_threadsafe(self._refuse, None)

    def _fail(self, error: Exception) -> None:
        """Begin anew with the file at the next message: it may have been moved, or repaired."""
        if self._trouble != str(error):
            self._trouble = str(error)
            log.error("%s: mail gets 451 until this is mended", error, exc_info=_unforeseen(error))
        if self._store:
            self._store.close()
            self._store = None

    def _recover(self) -> None:
        if self._trouble:
            self._trouble = ""
            log.info("%s takes mail again", self)


def _all(batch: list[Put], outcome: Reply | None) -> list[Settled]:
    """The same outcome for every recipient: a transaction stores all of them or none."""
    return [(settle, [outcome] * len(message)) for message, settle in batch]


def _unforeseen(error: Exception) -> bool:
    """An operator can mend what the system reports; the rest is ours, and needs its traceback."""
    return not isinstance(error, OSError)
