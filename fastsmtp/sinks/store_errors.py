"""What can go wrong with a store's file, in words that an operator understands."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

BUSY_TIMEOUT = 10
"""Seconds to wait for another process that writes."""


class StoreError(OSError):
    """The file cannot be used (now); the text names it and is for an operator."""


class StoreFullError(StoreError):
    """The disk is full, or the file is as large as it may become."""


FULL = "the disk, or the queue, is full"
BUSY = f"another process kept it locked for {BUSY_TIMEOUT} s"
DAMAGED = "the file is damaged; SQLite's command .recover may save what is in it"

DISK = "the disk does not take or give the data (error, quota, size limit)"

_WORDS = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_NOTADB: "this file is no SQLite database",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_READONLY: "may not be written by this user, or its disk is read-only",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened by this user",
    sqlite3.SQLITE_IOERR: DISK,
}


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Within it, SQLite's errors about the file at `path` become StoreErrors."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        text = f"{path}: {_WORDS.get(code, f'SQLite says: {error}')}"
        raise (StoreFullError if code == sqlite3.SQLITE_FULL else StoreError)(text) from error
