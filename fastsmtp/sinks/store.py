"""Mail on disk: one SQLite file, one row for each recipient's message, in the order of arrival.

Takes batches of `Outgoing`: when `add` has returned, the batch is on the disk and survives a power
cut (WAL, synchronous FULL); when it raised, nothing of it is stored. Several processes may use one
file at once; a call waits up to `BUSY_TIMEOUT` for the others.
Knows neither threads, event loops nor SMTP. An instance belongs to one thread at a time.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any, NamedTuple

from fastsmtp.payload import Outgoing
from fastsmtp.sinks.store_errors import (
    BUSY_TIMEOUT,
    FULL,
    StoreError,
    StoreFullError,
    explained,
)

APPLICATION_ID = 0x46534D51
"""What `file` and we know our files by (PRAGMA application_id): "FSMQ"."""

SCHEMA_VERSION = 1
"""PRAGMA user_version of the files that this code writes."""

PAGE_SIZE = 8192
"""Octets; three rows of 2.5 KB fit a page, of 4,096 one would."""

MAX_SIZE = 8 << 40
"""Octets; more than anybody has, less than SQLite's page numbers can count."""

RESERVE = 16 << 20
"""Octets of the disk that mail never takes: on a disk filled to the brim, SQLite could not even
delete."""

MIN_SIZE = 1 << 20
"""Octets; a smaller limit would not hold the empty file, its WAL and a message."""

HEAD = 16 * 1024
"""Octets of a tail that a list reads."""

LARGE = 1 << 20
"""Octets of a tail from which on it is copied into the file in place: binding it would make two
more copies of it in memory."""

ROWS_PER_INSERT = 64
"""Each statement lets go of the GIL, and may have to wait 5 ms to get it back from a busy loop."""

STEP = 500
"""Rows deleted, or pages given back, in one transaction: a daemon's commits come in between."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of arrival, never used twice
    id       TEXT NOT NULL UNIQUE,               -- the property message-id
    priority INTEGER,                            -- AMQP priority
    encoding TEXT NOT NULL,                      -- the property mime-encoding, or empty
    stored   INTEGER NOT NULL,                   -- seconds since 1970, UTC
    prefix   BLOB NOT NULL,                      -- the JSON body is prefix || tail
    tail     BLOB NOT NULL
)
"""
INSERT = "INSERT INTO messages (id, priority, encoding, stored, prefix, tail) VALUES "


class Entry(NamedTuple):
    """What a list of the queue shows of a row."""

    seq: int
    id: str
    stored: int  # seconds since 1970
    size: int  # octets of the JSON body
    head: bytes  # the body's beginning


class Store:
    """One open file.

    `maxsize` bounds the octets of file and WAL together; `create` makes the file, and the folders
    above it, where they are missing. Raises FileNotFoundError (only without `create`), OSError
    (StoreError among them) or ValueError where the file or the limit cannot be used.
    """

    def __init__(self, path: str, maxsize: int = MAX_SIZE, *, create: bool = False) -> None:
        if maxsize < MIN_SIZE:
            raise ValueError(f"{path}: a limit of {maxsize} bytes; at least {MIN_SIZE} are needed")
        self.path = os.path.abspath(path)
        self._maxsize = maxsize
        if create:
            _create(self.path)
        self._inode = _inode(self.path)
        with explained(self.path):
            self._db = sqlite3.connect(
                f"{Path(self.path).as_uri()}?mode=rw",
                uri=True,
                timeout=BUSY_TIMEOUT,
                isolation_level=None,  # transactions are ours
                check_same_thread=False,
            )
        try:
            with explained(self.path):
                self._prepare_in_time()
        except BaseException:
            self._db.close()
            raise
        longest = self._db.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
        # Within `maxsize` it is twice: in the WAL, then in the file.
        self.max_body = min(longest, maxsize * 49 // 100) - 128 * 1024
        """Octets of the largest body that a row takes: SQLite's limit and `maxsize` set it."""

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
        with self._transaction("DEFERRED"):  # another process may be making it at this moment
            empty = not self._value("SELECT count(*) FROM sqlite_master")
            application = self._value("PRAGMA application_id")
            version = self._value("PRAGMA user_version")
        if empty and application in (0, APPLICATION_ID):
            self._make()
        elif application != APPLICATION_ID:
            raise StoreError(f"{self.path}: this SQLite file is no queue of fastsmtp")
        elif version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: written by a newer fastsmtp (schema {version}, this one knows "
                f"{SCHEMA_VERSION}): use that one, or another file"
            )
        if self._value("PRAGMA journal_mode = WAL") != "wal":
            raise StoreError(
                f"{self.path}: SQLite's write-ahead log does not work here (a network file "
                "system?): choose a path on a local disk"
            )
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA journal_size_limit = {16 << 20}")
        self._value("SELECT max(seq) FROM messages")  # the first look makes the WAL

    def _make(self) -> None:
        self._db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # `purge` gives space back
        with self._transaction():
            self._db.execute(SCHEMA)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    # Writing

    def add(self, rows: Sequence[Outgoing]) -> None:
        """Store `rows`, all or none, and return when they are on the disk.

        Raises StoreFullError or StoreError; no body may be larger than `max_body`.
        """
        self._check()
        try:
            self._add(rows)
        except StoreFullError:
            self._shrink(rows)
            self._add(rows)

    def _add(self, rows: Sequence[Outgoing]) -> None:
        now = int(time())
        with explained(self.path):
            limit = self._page_limit(rows)
            if limit < self._value("PRAGMA page_count"):
                raise StoreFullError(f"{self.path}: {FULL}")
            self._db.execute(f"PRAGMA max_page_count = {limit}")
            with self._transaction():
                for first in range(0, len(rows), ROWS_PER_INSERT):
                    self._insert(rows[first : first + ROWS_PER_INSERT], now)

    def _insert(self, rows: Sequence[Outgoing], now: int) -> None:
        values: list[Any] = []
        places = []
        large = []
        for row in rows:
            tail: Any = row.tail
            place = "(?,?,?,?,?,?)"
            if len(tail) >= LARGE:
                large.append(row)
                tail = len(tail)
                place = "(?,?,?,?,?,zeroblob(?))"
            places.append(place)
            values += (row.id, row.priority, row.encoding, now, row.prefix, tail)
        self._db.execute(INSERT + ",".join(places), values)
        for row in large:
            seq = self._value("SELECT seq FROM messages WHERE id = ?", row.id)
            with self._db.blobopen("messages", "tail", seq) as blob:
                blob.write(row.tail)

    def _page_limit(self, rows: Sequence[Outgoing]) -> int:
        """Pages that the file may have, so that the WAL with `rows` in it has room beside it."""
        octets = sum([len(row.prefix) + len(row.tail) for row in rows])
        wal = octets + octets // 128 + (len(rows) + 8) * PAGE_SIZE
        disk = os.statvfs(self.path)
        limit = min(
            self._maxsize - self._wal_size(),
            os.stat(self.path).st_size + disk.f_bavail * disk.f_frsize - RESERVE,
        )
        return (limit - wal) // PAGE_SIZE

    def _shrink(self, rows: Sequence[Outgoing]) -> None:
        """Make room for `rows` out of the WAL, and out of what was deleted in the file."""
        self.checkpoint()
        with explained(self.path):
            self._vacuum(self._value("PRAGMA page_count") - self._page_limit(rows))
        self.checkpoint()

    def _vacuum(self, pages: int) -> None:
        """Give back unused pages, a few hundred in a transaction."""
        for left in range(min(pages, self._value("PRAGMA freelist_count")), 0, -STEP):
            # execute() would take one step of it, which is one page.
            self._db.executescript(f"PRAGMA incremental_vacuum({min(left, STEP)})")

    def delete(self, ids: Iterable[str]) -> int:
        """Delete these messages in one transaction; how many there were. Raises StoreError."""
        with explained(self.path), self._transaction():
            return sum(
                self._db.execute("DELETE FROM messages WHERE id = ?", (one,)).rowcount
                for one in ids
            )

    def purge(self) -> int:
        """Delete all that is there now, give the space back; how many. Raises StoreError.

        Goes in steps, so that others can write meanwhile; what they add stays.
        """
        deleted = 0
        with explained(self.path):
            last = self._value("SELECT max(seq) FROM messages")
            while last is not None:
                with self._transaction():
                    step = self._db.execute(
                        "DELETE FROM messages WHERE seq IN (SELECT seq FROM messages "
                        "WHERE seq <= ? ORDER BY seq LIMIT ?)",
                        (last, STEP),
                    ).rowcount
                if not step:
                    break
                deleted += step
            self._vacuum(self._value("PRAGMA freelist_count"))
            self.checkpoint()
        return deleted

    def checkpoint(self) -> None:
        """Bring the WAL into the file and empty it, where no reader is in the way."""
        with explained(self.path):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # Reading

    def count(self) -> int:
        """How many messages are stored. Raises StoreError."""
        with explained(self.path):
            return int(self._value("SELECT count(*) FROM messages"))

    def span(self) -> int:
        """Messages from the oldest to the newest, deleted ones between them too. Raises StoreError.

        Looks at two rows, where `count` reads an index of them all; 0 where there is none.
        """
        with explained(self.path):
            return int(
                self._value(
                    "SELECT coalesce((SELECT max(seq) FROM messages) "
                    "- (SELECT min(seq) FROM messages) + 1, 0)"
                )
            )

    def octets(self) -> int:
        """Of disk that the file takes now, its WAL included. Raises StoreError."""
        self._check()
        return os.stat(self.path).st_size + self._wal_size()

    def entries(self, after: int = 0, limit: int = 500) -> list[Entry]:
        """Up to `limit` rows behind `after` (a seq), oldest first. Raises StoreError.

        Short, as the WAL cannot be emptied while somebody reads: ask again for more.
        """
        found = []
        with explained(self.path), self._transaction("DEFERRED"):
            rows = self._db.execute(
                "SELECT seq, id, stored, length(prefix) + length(tail), prefix FROM messages "
                "WHERE seq > ? ORDER BY seq LIMIT ?",
                (after, limit),
            )
            for seq, id, stored, size, prefix in rows:
                with self._db.blobopen("messages", "tail", seq, readonly=True) as tail:
                    found.append(Entry(seq, id, stored, size, prefix + tail.read(HEAD)))
        return found

    def matching(self, beginning: str) -> list[str]:
        """The ids that begin so, ten at most. Raises StoreError."""
        with explained(self.path):
            rows = self._db.execute(
                "SELECT id FROM messages WHERE id >= ? AND id < ? ORDER BY id LIMIT 10",
                (beginning, beginning + "{"),  # behind every letter and digit
            )
            return [str(one) for (one,) in rows]

    def newest(self) -> int:
        """The seq of the message that was stored last; 0 where there is none. Raises StoreError."""
        with explained(self.path):
            return int(self._value("SELECT coalesce(max(seq), 0) FROM messages"))

    def get(self, id: str) -> Outgoing | None:
        """One message, or None where it is not there (any more). Raises StoreError."""
        with explained(self.path):
            row = self._db.execute(
                "SELECT id, priority, encoding, prefix, tail FROM messages WHERE id = ?", (id,)
            ).fetchone()
            return None if row is None else Outgoing(*row)

    def after(self, seq: int, limit: int, octets: int) -> list[tuple[int, Outgoing]]:
        """The next messages behind `seq`, each with its own seq, oldest first.

        At most `limit`, their bodies `octets` together; the first is given however large it is.
        Empty: there is none now. Raises StoreError.
        """
        with explained(self.path), self._transaction("DEFERRED"):
            last = None
            sizes = self._db.execute(
                "SELECT seq, length(prefix) + length(tail) FROM messages "  # reads no content
                "WHERE seq > ? ORDER BY seq LIMIT ?",
                (seq, limit),
            )
            for each, size in sizes:
                octets -= size
                if last is not None and octets < 0:
                    break
                last = each
            rows = self._db.execute(
                "SELECT seq, id, priority, encoding, prefix, tail FROM messages "
                "WHERE seq > ? AND seq <= ? ORDER BY seq",
                (seq, last),
            )
            return [(each, Outgoing(*row)) for each, *row in rows]

    def room(self) -> int:
        """Octets that fit still, by the limit and by the disk; an estimate. Raises StoreError."""
        with explained(self.path):
            used = self._value("PRAGMA page_count") - self._value("PRAGMA freelist_count")
        return (self._page_limit(()) - int(used)) * PAGE_SIZE

    def close(self) -> None:
        """Let go of the file; whoever is the last to do so brings the WAL into it."""
        with suppress(sqlite3.Error):  # what is in the WAL is safe there
            self._db.close()

    # Inside

    def _value(self, sql: str, *parameters: object) -> Any:
        """The first column of the first row."""
        return self._db.execute(sql, parameters).fetchone()[0]

    def _wal_size(self) -> int:
        return os.stat(self.path + "-wal").st_size

    def _check(self) -> None:
        """SQLite would go on to write into files that somebody has removed."""
        with suppress(FileNotFoundError):
            if self._inode == _inode(self.path) and self._wal_size() >= 0:
                return
        raise StoreError(f"{self.path}: was removed or replaced while it was in use")

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        self._db.execute(f"BEGIN {kind}")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite itself rolls back on some errors
                self._db.execute("ROLLBACK")
            raise


def _inode(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _create(path: str) -> None:
    """An empty file, mode 0600 (SQLite gives its WAL the same), in folders that are 0700.

    A file that exists is not touched: to close it would drop the locks of this process on it.
    """
    _create_folder(os.path.dirname(path))
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _create_folder(path: str) -> None:
    """Make the folder and those above it, so that they are still there after a power cut."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    _create_folder(parent)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    descriptor = os.open(parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
