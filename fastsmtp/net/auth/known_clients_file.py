"""The SQLite file of `known_clients`: made, examined, read and written.

Workers open it at the same time. A file that is damaged, of another version or not ours is moved
aside, under a lock of its folder, and a new one is made. Rows are read by their whole digest and
only with a time that can be right, so nothing that stands in the file can do more harm than a pair
that is not known, or a known pair more.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastsmtp.needs import Use
from fastsmtp.settings import Settings

NAME = "known-clients.db"

MOST = 100_000
"""Pairs in the file; with more, those that would expire next go. About 10 MB."""

MOST_OF_USER = 100
"""Of them of one user, so that nobody's many addresses push others out."""

LARGEST = 64 << 20
"""Bytes of a file that can be ours."""

BUSY_TIMEOUT = 5.0
"""Seconds that a write waits for another worker's."""

_KEY_SIZE = 32

_OF_THE_DISK = {
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR),
    *(sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY),
}
"""SQLite's errors that say nothing about the content of the file."""

_SCHEMA = (
    "CREATE TABLE key (value BLOB NOT NULL)",
    "CREATE TABLE pairs (digest BLOB PRIMARY KEY, user BLOB NOT NULL, until INTEGER NOT NULL)",
    "CREATE INDEX by_user ON pairs (user, until)",
    "CREATE INDEX by_time ON pairs (until)",
)


class FileError(Exception):
    """The file cannot be used; the text names it and says why."""


def use(settings: Settings) -> Use:
    """The file, beside the queue file, which need not exist."""
    default = settings.queue_file == Settings().queue_file
    path = os.path.join(os.path.dirname(os.path.abspath(settings.queue_file)), NAME)
    return Use("queue-file", path, writes=True, makes_folder=default)


class Database:
    """One open file: `until` is called by one thread, `keep` by one other."""

    def __init__(self, path: str, makes_folder: bool) -> None:
        """Raises FileError."""
        self._path = path
        try:
            if makes_folder:
                os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            with _locked_folder(path):
                self._writer, self.key = _opened(path)
                self._reader = _connect(path, 0.0)
        except (OSError, sqlite3.Error, ValueError) as error:
            raise self._error(error) from None

    def until(self, pair: bytes, now: int, latest: int) -> int:
        """Until when the pair is known, in seconds since 1970; 0: it is not. Raises FileError.

        A time past `latest` was never written by us: it is none.
        """
        try:
            row = self._reader.execute(
                "SELECT until FROM pairs WHERE digest = ? AND until BETWEEN ? AND ?",
                (pair, now, latest),
            ).fetchone()
        except sqlite3.Error as error:
            raise self._error(error) from None
        return int(row[0]) if row else 0

    def keep(self, pair: bytes, owner: bytes, now: int, until: int) -> None:
        """Write that the pair, which is of the user `owner`, is known until then.

        Pairs that are over go, and those that are too many. Raises FileError.
        """
        try:
            with _transaction(self._writer):
                for sql, values in (
                    ("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?)", (pair, owner, until)),
                    ("DELETE FROM pairs WHERE until <= ?", (now,)),
                    (_surplus("WHERE user = ?"), (owner, MOST_OF_USER)),
                    (_surplus(""), (MOST,)),
                ):
                    self._writer.execute(sql, values)
        except sqlite3.Error as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> FileError:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return FileError(f"{self._path}: {why}")


def _surplus(where: str) -> str:
    """SQL that deletes all but so many rows, those that are over last being kept."""
    kept = f"SELECT rowid FROM pairs {where} ORDER BY until DESC LIMIT -1 OFFSET ?"
    return f"DELETE FROM pairs WHERE rowid IN ({kept})"


def _connect(path: str, timeout: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{Path(path).as_uri()}?mode=rw",
        uri=True,
        timeout=timeout,
        isolation_level=None,  # transactions are ours
        check_same_thread=False,
    )


def _opened(path: str) -> tuple[sqlite3.Connection, bytes]:
    """The file, and its key; raises OSError, sqlite3.Error or ValueError."""
    try:
        return _open(path)
    except ValueError:
        pass
    except sqlite3.Error as error:
        code = error.sqlite_errorcode
        if code & 0xFF in _OF_THE_DISK and code != sqlite3.SQLITE_IOERR_SHORT_READ:
            raise
    _move_aside(path)
    return _open(path)


def _open(path: str) -> tuple[sqlite3.Connection, bytes]:
    """The same; ValueError and most of sqlite3.Error say that it is not ours, or damaged."""
    _create(path)
    db = _connect(path, BUSY_TIMEOUT)
    try:
        _make(db)
        return db, _examine(db)
    except BaseException:
        db.close()
        raise


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _make(db: sqlite3.Connection) -> None:
    """Fill a file that is new."""
    if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise OSError(None, "SQLite's write-ahead log does not work here (a network file system?)")
    db.execute("PRAGMA synchronous = NORMAL")  # a power cut may take the last seconds' pairs
    if not db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        with _transaction(db):
            for sql in _SCHEMA:
                db.execute(sql)
            db.execute("INSERT INTO key VALUES (?)", (os.urandom(_KEY_SIZE),))


def _examine(db: sqlite3.Connection) -> bytes:
    """The key of a file that is ours and whole. Raises ValueError or sqlite3.Error."""
    made = db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")
    if tuple(sql for (sql,) in made) != _SCHEMA:
        raise ValueError("it is not a file of this version")
    if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise ValueError("it is damaged")
    keys = db.execute("SELECT value FROM key").fetchall()
    if len(keys) != 1 or not isinstance(keys[0][0], bytes) or len(keys[0][0]) != _KEY_SIZE:
        raise ValueError("its key is damaged")
    return bytes(keys[0][0])


@contextmanager
def _locked_folder(path: str) -> Iterator[None]:
    """Only one process at a time makes or replaces the file."""
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _create(path: str) -> None:
    """Make an empty file of mode 0600; SQLite gives its companions the same."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if os.stat(path).st_size > LARGEST:
        raise ValueError("it is too large")


def _move_aside(path: str) -> None:
    """Keep what somebody may want to look at, once; SQLite's companions are of no use alone."""
    os.replace(path, f"{path}.damaged")
    for companion in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.unlink(path + companion)
