"""One thread that owns a store and commits what arrived while the last commit ran (group commit).

`put`, `run` and `close` are the event loop's; each message is settled there once its transaction is
on the disk, or with the reply to give. Begins anew with the file after an error: it may have been
moved, or repaired. A file that is damaged is set aside, and what was to be stored goes into a new
one. Knows nothing of how rows lie on disk, and of no availability.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from threading import Thread
from time import monotonic
from typing import Generic, TypeVar

from fastsmtp import replies
from fastsmtp._durations import Durations, now
from fastsmtp.payload import Outgoing
from fastsmtp.replies import Reply
from fastsmtp.sinks.arrivals import Arrivals, Put
from fastsmtp.sinks.base import Outcomes, Settle
from fastsmtp.sinks.store import Store
from fastsmtp.sinks.store_errors import StoreDamagedError, StoreFullError, StoreSetAsideError

RETRY = 1.0
"""Seconds between two looks for room while the disk, or the file, is full."""

ORDINARY = 64 * 1024
"""Bytes of a message that fits wherever there is room."""

LEAVE_INTERVAL = 5.0
"""Seconds from one file that is set aside to the next: a disk that damages all would be filled."""

S = TypeVar("S", bound=Store)

Settled = tuple[Settle, Outcomes]

Work = Callable[[S], None]

log = logging.getLogger(__name__)


class Committer(Generic[S]):
    """The file that `open_store` opens, which with its WAL takes at most `maxsize` bytes of disk.

    `has_room` is told, in the event loop, when room ends and when there is some again; `failed`, of
    each message that the file does not take otherwise, why; `on_set_aside`, in the thread, the
    damage and the new name of a file that was set aside.
    """

    def __init__(
        self,
        open_store: Callable[[], S],
        maxsize: int,
        name: str,
        commit_seconds: Durations,
        has_room: Callable[[bool], None],
        failed: Callable[[str], None],
        on_set_aside: Callable[[StoreDamagedError, str], None] = lambda error, name: None,
    ) -> None:
        # The event loop's
        self._has_room = has_room
        self._failed = failed
        self._is_open = False
        self._ended = asyncio.Event()  # the thread has settled everything
        # Both sides'
        self._open_store = open_store
        self._on_set_aside = on_set_aside
        self._maxsize = maxsize
        self._name = name  # of the file, for the log
        self._arrivals: Arrivals[S] = Arrivals()
        # The thread's
        self._commit_seconds = commit_seconds
        self._store: S | None = None  # None after an error, until the next attempt
        self._full = False
        self._may_leave = 0.0  # monotonic; from then on another file may be set aside
        self._next_look = 0.0  # monotonic; for room, while full
        self._trouble = ""  # the error that was logged and has not passed

    async def start(self) -> int:
        """Open the file; gives the octets of the largest body. Raises OSError or ValueError."""
        self._loop = asyncio.get_running_loop()
        store = self._store = await asyncio.to_thread(self._open_store)
        self._is_open = True
        Thread(target=self._run, name="queue", daemon=True).start()
        return store.max_body

    def put(self, message: Sequence[Outgoing], settle: Settle, is_held: bool = False) -> None:
        """Take rows, each no larger than the largest body; `settle` as in `base.Sink.put`."""
        if self._is_open:
            self._arrivals.put(Put(message, settle, is_held))
        else:
            self._loop.call_soon(settle, [replies.NOT_STORED] * len(message))

    def run(self, work: Work[S]) -> None:
        """Let the thread do `work` between two commits; an OSError is logged like a commit's."""
        self._arrivals.work(work)

    async def close(self) -> None:
        """Settle all that was put; the WAL goes into the file, unless others still use it."""
        if self._is_open:
            self._is_open = False
            self._arrivals.close()
            await self._ended.wait()

    def _settle(self, settled: list[Settled]) -> None:
        for settle, outcomes in settled:
            try:
                settle(outcomes)
            except Exception:
                log.exception("error in what follows a message")  # the others must be settled

    # What follows runs in the thread.

    def _run(self) -> None:
        while (batch := self._arrivals.batch(RETRY if self._full else None)) is not None:
            for work in self._arrivals.works():
                self._do(work)
            if batch:
                self._loop.call_soon_threadsafe(self._settle, self._commit(batch))
                batch.clear()  # or it stayed in memory while the next one is waited for
            if self._full and monotonic() >= self._next_look:
                self._look_for_room()
        if self._store:
            self._store.close()
        self._loop.call_soon_threadsafe(self._ended.set)

    def _do(self, work: Work[S]) -> None:
        try:
            work(self._opened())
        except Exception as error:
            self._begin_anew(error)

    def _commit(self, batch: list[Put], is_last: bool = False) -> list[Settled]:
        """Store the batch; where it does not fit, message by message.

        Where the file is damaged, the batch goes into a new one, unless this attempt `is_last`.
        """
        try:
            begun = now()
            self._opened().add_all(batch)
            self._commit_seconds.since(begun)
        except StoreFullError as error:
            if len(batch) > 1:
                return [settled for one in batch for settled in self._commit([one], is_last)]
            return _all(batch, self._no_room(error, batch[0].rows))
        except (StoreDamagedError, StoreSetAsideError) as error:
            if not is_last and self._leave(error):
                return self._commit(batch, is_last=True)
            self._fail(error, len(batch))
            return _all(batch, replies.NOT_STORED)
        except Exception as error:  # whatever it is, the senders keep their mail
            self._fail(error, len(batch))
            return _all(batch, replies.NOT_STORED)
        self._recover()
        return _all(batch, None)

    def _opened(self) -> S:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def _no_room(self, error: StoreFullError, rows: Sequence[Outgoing]) -> Reply:
        """The reply to a message that does not fit; smaller ones are taken where they do."""
        try:
            store = self._opened()
            if not store.can_hold(rows):
                return replies.TOO_LARGE
            if self._fits_mail(store):
                if sum(row.size for row in rows) <= ORDINARY:  # the disk alone says no
                    self._report(error, 452, 1)
                return replies.NO_SPACE
        except StoreFullError:
            pass
        except Exception as other:
            self._begin_anew(other, 1)
            return replies.NOT_STORED
        self._fill(error)
        return replies.NO_SPACE

    def _fits_mail(self, store: S) -> bool:
        """Whether mail of ordinary size fits."""
        return store.room() >= min(1 << 20, self._maxsize // 4)

    def _fill(self, error: StoreFullError) -> None:
        if not self._full:
            self._full = True
            self._next_look = monotonic() + RETRY
            log.error("%s: mail gets 452 until there is room", error)
            self._loop.call_soon_threadsafe(self._has_room, False)

    def _look_for_room(self) -> None:
        self._next_look = monotonic() + RETRY
        try:
            store = self._opened()
            store.checkpoint()
            fits = self._fits_mail(store)
        except StoreFullError:
            return
        except Exception as error:
            self._begin_anew(error)
            return
        if fits:
            self._full = False
            log.info("%s has room again", self._name)
            self._loop.call_soon_threadsafe(self._has_room, True)

    def _begin_anew(self, error: Exception, messages: int = 0) -> None:
        if not (isinstance(error, StoreDamagedError | StoreSetAsideError) and self._leave(error)):
            self._fail(error, messages)

    def _leave(self, error: StoreDamagedError | StoreSetAsideError) -> bool:
        """Set the file aside, unless another process has; whether a new one can take its place."""
        if self._store is None:
            return False
        if isinstance(error, StoreDamagedError):
            if monotonic() < self._may_leave:
                return False
            try:
                name = self._store.set_aside()
            except OSError as other:
                log.error("%s cannot be set aside: %s", self._name, other)
                return False
            self._may_leave = monotonic() + LEAVE_INTERVAL
            if name:
                self._on_set_aside(error, name)
        self._forget()
        return True

    def _fail(self, error: Exception, messages: int = 0) -> None:
        """Close the file after an error, with which so many messages were not stored."""
        self._report(error, 451, messages)
        self._forget()

    def _forget(self) -> None:
        if self._store:
            self._store.close()
            self._store = None

    def _report(self, error: Exception, code: int, messages: int) -> None:
        for _ in range(messages):
            self._loop.call_soon_threadsafe(self._failed, str(error))
        if self._trouble != str(error):
            self._trouble = str(error)
            trace = _unforeseen(error)
            log.error("%s: mail gets %d until this is mended", error, code, exc_info=trace)

    def _recover(self) -> None:
        if self._trouble:
            self._trouble = ""
            log.info("%s takes mail again", self._name)


def _all(batch: list[Put], outcome: Reply | None) -> list[Settled]:
    """The same outcome for every recipient: a transaction stores all of them or none."""
    return [(put.settle, [outcome] * len(put.rows)) for put in batch]


def _unforeseen(error: Exception) -> bool:
    """An operator can mend what the system reports; the rest is ours, and needs its traceback."""
    return not isinstance(error, OSError)
