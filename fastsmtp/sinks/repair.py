"""Looks for damage in a queue file when it is opened, and recovers what was set aside.

One of the processes that share the file does so, in a thread of its own, while mail goes on. Writes
what it found to the log.
"""

import logging
import os
from collections.abc import Callable
from threading import Event, Thread
from time import monotonic

from fastsmtp.sinks import file_moves
from fastsmtp.sinks.file_lock import REPAIR, FileLock
from fastsmtp.sinks.recovery import open_store, recover
from fastsmtp.sinks.store import Store
from fastsmtp.sinks.store_errors import StoreDamagedError, StoreSetAsideError

CHECKED_BYTES = 1 << 30
"""A larger file is not looked through when it is opened: that would take minutes of the disk."""

INTERVAL = 10.0
"""Seconds between two looks for files that others have set aside, or that had no room yet."""

log = logging.getLogger(__name__)


class Repair:
    """Of one worker, for the file at `path`, which `make` opens, or makes."""

    def __init__(self, path: str, make: Callable[[], Store]) -> None:
        self._path = os.path.abspath(path)
        self._make = make
        self._due = Event()
        self._ends = False
        self._is_checked = False
        self._trouble = ""  # the error that was logged last
        self._thread = Thread(target=self._run, name="repair", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def tell(self, error: StoreDamagedError, name: str) -> None:
        """The file was damaged and is set aside as `name`: log it, and recover it soon."""
        log.error("%s; it is set aside as %s, mail goes on into a new file", error, name)
        self._due.set()

    def close(self) -> None:
        """Wait until the step that is under way has ended."""
        self._ends = True
        self._due.set()
        if self._thread.is_alive():
            self._thread.join()

    def _goes_on(self) -> bool:
        return not self._ends

    def _run(self) -> None:
        while not self._ends:
            try:
                self._work()
            except Exception as error:
                if self._trouble != str(error):
                    self._trouble = str(error)
                    unforeseen = not isinstance(error, OSError)
                    log.error("what was set aside stays there: %s", error, exc_info=unforeseen)
            self._due.wait(INTERVAL)
            if not self._ends:
                self._due.clear()

    def _work(self) -> None:
        lock = FileLock(self._path)
        try:
            if not lock.take(REPAIR):
                self._is_checked = True  # another process does
                return
            if not self._is_checked:
                self._is_checked = True
                self._check()
            for name in file_moves.all_set_aside(self._path):
                if not self._ends:
                    self._recover(name)
        finally:
            lock.close()

    def _check(self) -> None:
        store = open_store(self._path, self._make, self.tell)
        try:
            if store.octets() >= CHECKED_BYTES:
                return
            try:
                if store.is_sound(self._goes_on):
                    return
                error = StoreDamagedError(self._path)
            except StoreDamagedError as found:
                error = found
            name = store.set_aside()
            if name:
                self.tell(error, name)
        except StoreSetAsideError:
            pass
        finally:
            store.close()

    def _recover(self, name: str) -> None:
        store = open_store(self._path, self._make, self.tell)
        self._begun = monotonic()
        try:
            done = recover(name, store, self._pause)
        finally:
            store.close()
        if done is not None:
            log.warning(
                "%s: %s; the damaged file is kept as %s, delete it when you do not need it",
                name,
                done,
                file_moves.mark_recovered(name),
            )

    def _pause(self) -> bool:
        """Rest as long as the last step took: the event loop needs the processor, too."""
        if not self._ends:
            self._due.wait(min(1.0, monotonic() - self._begun))
        self._begun = monotonic()
        return not self._ends
