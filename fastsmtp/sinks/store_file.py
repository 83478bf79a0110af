"""One SQLite file that is ours: made, opened, brought up to date, and kept within its size.

Gives its connection, on which transactions are the caller's. Knows nothing of what a message is.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from fastsmtp.own_files import database_refusal
from fastsmtp.sinks.file_descriptors import FileDescriptor
from fastsmtp.sinks.file_lock import MAIL, NEXT, TURN, FileLock
from fastsmtp.sinks.file_moves import create as create_file
from fastsmtp.sinks.file_moves import set_aside, was_set_aside
from fastsmtp.sinks.read_back import ReadBack
from fastsmtp.sinks.store_errors import (
    BUSY,
    BUSY_TIMEOUT,
    DISK,
    FULL,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreSetAsideError,
    explained,
)
from fastsmtp.sinks.store_schema import APPLICATION_ID, SCHEMA_VERSION, upgrade

PAGE_SIZE = 8192
"""Octets; three rows of 2.5 KB fit a page, of 4,096 one would."""

MAX_SIZE = 8 << 40
"""Octets; more than anybody has, less than SQLite's page numbers can count."""

RESERVE = 16 << 20
"""Octets of the disk that mail never takes: on a disk filled to the brim, SQLite could not even
delete."""

MIN_SIZE = 1 << 20
"""Octets; a smaller limit would not hold the empty file, its WAL and a message."""

STEP = 500
"""Rows deleted, or pages given back, in one transaction: a daemon's commits come in between."""

WAL_STEP = 4 << 20
"""Octets of the WAL that are written again in one turn; another process may commit behind it."""


class StoreFile:
    """One open file; see `store.Store` for the arguments and what is raised."""

    def __init__(self, path: str, maxsize: int, *, create: bool) -> None:
        if maxsize < MIN_SIZE:
            raise ValueError(f"{path}: a limit of {maxsize} bytes; at least {MIN_SIZE} are needed")
        self.path = os.path.abspath(path)
        self._maxsize = maxsize
        self._refuse_others_files(create)
        if create:
            create_file(self.path)
            self._refuse_others_files(create)
        self._lock: FileLock | None = None  # made when it is needed
        self._descriptor = FileDescriptor(self.path)
        self._read_back: ReadBack | None = None  # made when something is written
        try:
            self._connect(create)
        except BaseException:
            self._descriptor.close()
            raise
        longest = self.db.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
        # Within `maxsize` it is twice: in the WAL, then in the file.
        self.max_body = min(longest, maxsize * 49 // 100) - 128 * 1024
        """Octets of the largest body that a row takes: SQLite's limit and `maxsize` set it."""

    def _connect(self, create: bool) -> None:
        with explained(self.path):
            self.db = sqlite3.connect(
                f"{Path(self.path).as_uri()}?mode=rw",
                uri=True,
                timeout=BUSY_TIMEOUT,
                isolation_level=None,  # transactions are ours
                check_same_thread=False,
            )
        try:
            with explained(self.path):
                self._prepare_in_time()
            self._refuse_others_files(create)  # what SQLite has found or made beside it
            self.check()  # that both have opened the same file
            # The first one to come believes what it reads in the WAL; SQLite asks those that are
            # there already. Whoever adds mail has seen to the WAL, or was the one that wrote it.
            if self._wal_size() and not self._locks().is_taken(MAIL):
                self._write_wal_again()
            if create:
                self._locks().share(MAIL)
        except BaseException:
            self.close()
            raise

    def _refuse_others_files(self, create: bool) -> None:
        """Root may look into anybody's queue, but puts mail into its own alone."""
        why = database_refusal(self.path, any_owner=not create and os.geteuid() == 0)
        if why:
            raise StoreError(why)

    def _prepare_in_time(self) -> None:
        """SQLite itself does not wait for others at every step of the change to its WAL."""
        deadline = monotonic() + BUSY_TIMEOUT
        while True:
            try:
                return self._prepare()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                    raise
            sleep(0.01)

    def _prepare(self) -> None:
        """Look whose file it is before anything in it changes, then make it ours."""
        with self.transaction("DEFERRED"):  # another process may be making it at this moment
            empty = not self.value("SELECT count(*) FROM sqlite_master")
            application = self.value("PRAGMA application_id")
            version = self.value("PRAGMA user_version")
        if empty and version and application == APPLICATION_ID:
            raise StoreDamagedError(f"{self.path}: its tables are gone")
        if empty and application in (0, APPLICATION_ID):
            self.db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            self.db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # `purge` gives space back
        elif application != APPLICATION_ID:
            raise StoreError(f"{self.path}: this SQLite file is no queue of fastsmtp")
        elif version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: written by a newer fastsmtp (schema {version}, this one knows "
                f"{SCHEMA_VERSION}): use that one, or another file"
            )
        if self.value("PRAGMA journal_mode = WAL") != "wal":
            raise StoreError(
                f"{self.path}: SQLite's write-ahead log does not work here (a network file "
                "system?): choose a path on a local disk"
            )
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute(f"PRAGMA journal_size_limit = {16 << 20}")
        if version < SCHEMA_VERSION:
            with self.transaction("IMMEDIATE"):
                upgrade(self.db)
        self.value("SELECT max(seq) FROM messages")  # the first look makes the WAL

    def _write_wal_again(self) -> None:
        """Make sure that commits found in the WAL are on the disk: new ones will stand behind them.

        After an fsync that failed, the kernel takes the bytes for written. A later fsync succeeds
        without them, and a power cut would end the WAL where they are missing.
        """
        try:
            wal = os.open(self.path + "-wal", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                place = 0
                while place < os.fstat(wal).st_size:
                    with explained(self.path), self.writing():  # nobody changes it meanwhile
                        place += os.pwrite(wal, os.pread(wal, WAL_STEP, place), place)
                if place:
                    os.fsync(wal)
            finally:
                os.close(wal)
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(f"{self.path}: {DISK}") from error

    def value(self, sql: str, *parameters: object) -> Any:
        """The first column of the first row."""
        return self.db.execute(sql, parameters).fetchone()[0]

    def _locks(self) -> FileLock:
        self._lock = self._lock or FileLock(self.path)
        return self._lock

    @contextmanager
    def writing(self, id: str | None = None) -> Iterator[None]:
        """A transaction that writes, when it is this one's turn among all processes.

        Once it is on the disk, the message `id` is read back. Raises StoreDamagedError where it is
        not there as it was stored, or where the file's first page is damaged.
        """
        lock = self._locks()
        # Who has just written must be the next one again before it can be its turn again: SQLite
        # itself would let one process write all the time while others wait.
        if not lock.wait(NEXT, BUSY_TIMEOUT):
            raise StoreError(f"{self.path}: {BUSY}")
        try:
            has_turn = lock.wait(TURN, BUSY_TIMEOUT)
        finally:
            lock.release(NEXT)
        if not has_turn:
            raise StoreError(f"{self.path}: {BUSY}")
        try:
            self.check()  # as nobody writes into a file that was set aside
            with self.transaction("IMMEDIATE"):
                yield
            if id is not None:
                self._prove(id)
        finally:
            lock.release(TURN)

    def _prove(self, id: str) -> None:
        if self._read_back is None:
            size = self.value("PRAGMA page_size")
            self._read_back = ReadBack(self.path, self._descriptor.number, size)
        self._read_back.check_first_page()
        # An fastsmtp of before, or an operator's own SQL, may have deleted it by now.
        if not self._read_back.check_row(id) and self.has(id):
            raise StoreDamagedError(f"{self.path}: message {id} cannot be found")

    def has(self, id: str) -> bool:
        """Whether the message is there."""
        return bool(self.value("SELECT count(*) FROM messages WHERE id = ?", id))

    @contextmanager
    def transaction(self, kind: str) -> Iterator[None]:
        """Commits at its end, or takes all back where an exception leaves it."""
        self.db.execute(f"BEGIN {kind}")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:  # SQLite itself rolls back on some errors
                self.db.execute("ROLLBACK")
            raise

    def check(self) -> None:
        """Raises StoreError where somebody has removed the file: SQLite would go on to write.

        It is a StoreSetAsideError where another process found damage.
        """
        file = self._descriptor.file
        with suppress(FileNotFoundError):
            if file == _inode(self.path) and self._wal_size() >= 0:
                return
        if was_set_aside(self.path, file):
            raise StoreSetAsideError(f"{self.path}: was set aside, as it is damaged")
        raise StoreError(f"{self.path}: was removed or replaced while it was in use")

    def set_aside(self) -> str | None:
        """Rename the file, which is damaged; gives its new name, None where another process did."""
        return set_aside(self.path, self._descriptor.file)

    def is_sound(self, goes_on: Callable[[], bool]) -> bool:
        """Whether SQLite finds no damage; looks at every page until `goes_on` says no."""
        self.db.set_progress_handler(lambda: not goes_on(), 100_000)
        try:
            return bool(self.value("PRAGMA quick_check(1)") == "ok")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                return True
            raise
        finally:
            self.db.set_progress_handler(None, 0)

    def close(self) -> None:
        """Let go of the file; whoever is the last to do so brings the WAL into it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        with suppress(sqlite3.Error):  # what is in the WAL is safe there
            self.db.close()
        if self._read_back is not None:
            with suppress(sqlite3.Error):
                self._read_back.close()
        self._descriptor.close()

    # Its size

    def octets(self) -> int:
        """Of disk that the file takes now, its WAL included."""
        return os.stat(self.path).st_size + self._wal_size()

    def room(self) -> int:
        """Octets that fit still, by the limit and by the disk; an estimate."""
        used = self.value("PRAGMA page_count") - self.value("PRAGMA freelist_count")
        return (self._page_limit(0, 0) - int(used)) * PAGE_SIZE

    def can_hold(self, octets: int, rows: int) -> bool:
        """Whether `rows` rows of so many octets would fit an empty file and its WAL."""
        in_file = octets + octets // 128 + 8 * PAGE_SIZE
        return _wal_need(octets, rows) + in_file <= self._maxsize

    def limit_pages(self, octets: int, rows: int) -> None:
        """Let the file grow so far only that a WAL with `rows` new rows has room beside it.

        Raises StoreFullError where it is larger already.
        """
        limit = max(1, self._page_limit(octets, rows))
        # SQLite says what the limit is now: what the file has, where that is more.
        if self.value(f"PRAGMA max_page_count = {limit}") > limit:
            raise StoreFullError(f"{self.path}: {FULL}")

    def shrink(self, octets: int, rows: int) -> None:
        """Make room for `rows` new rows out of the WAL, and out of what was deleted in the file."""
        self.checkpoint()
        self._vacuum(self.value("PRAGMA page_count") - self._page_limit(octets, rows))
        self.checkpoint()

    def give_back(self) -> None:
        """Give all unused pages, and the WAL, back to the disk."""
        self._vacuum(self.value("PRAGMA freelist_count"))
        self.checkpoint()

    def checkpoint(self) -> None:
        """Bring the WAL into the file and empty it, where no reader is in the way."""
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _page_limit(self, octets: int, rows: int) -> int:
        """Pages that the file may have, so that the WAL with `rows` in it has room beside it."""
        disk = os.statvfs(self.path)
        limit = min(
            self._maxsize - self._wal_size(),
            os.stat(self.path).st_size + disk.f_bavail * disk.f_frsize - RESERVE,
        )
        return (limit - _wal_need(octets, rows)) // PAGE_SIZE

    def _vacuum(self, pages: int) -> None:
        """Give back unused pages, a few hundred in a transaction."""
        for left in range(min(pages, self.value("PRAGMA freelist_count")), 0, -STEP):
            # execute() would take one step of it, which is one page.
            self.db.executescript(f"PRAGMA incremental_vacuum({min(left, STEP)})")

    def _wal_size(self) -> int:
        return os.stat(self.path + "-wal").st_size


def _wal_need(octets: int, rows: int) -> int:
    """Octets that a transaction with `rows` rows adds to the WAL at most."""
    return octets + octets // 128 + (rows + 8) * PAGE_SIZE


def _inode(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
