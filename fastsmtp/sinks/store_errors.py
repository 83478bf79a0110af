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


class StoreDamagedError(StoreError):
    """The file does not hold what was written into it."""

    def __init__(self, what: str, why: str | None = None) -> None:
        """`what` names the file; `why` is for the operator."""
        super().__init__(f"{what}: {why or DAMAGED}")


class StoreSetAsideError(StoreError):
    """The file was damaged, and another process has set it aside: open the new one."""


FULL = "the disk, or the queue, is full"
BUSY = f"another process kept it locked for {BUSY_TIMEOUT} s"
DAMAGED = "the file is damaged"

DISK = "the disk does not take or give the data (error, quota, size limit)"

_WORDS = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_READONLY: "may not be written by this user, or its disk is read-only",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened by this user",
    sqlite3.SQLITE_IOERR: DISK,
}


@contextmanager
def explained(path: str, *, reads: bool = False) -> Iterator[None]:
    """Within it, SQLite's errors about the file at `path` become StoreErrors.

    Where it only `reads`, so do the errors of Python that a value of another type causes: damage
    alone puts one there.
    """
    try:
        yield
    except TypeError as error:
        if not reads:
            raise
        raise StoreDamagedError(f"{path}: a value has a type that was never written") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            raise StoreDamagedError(path, "this file is no SQLite database") from error
        if code == sqlite3.SQLITE_CORRUPT or _NOT_UTF_8 in str(error):
            raise StoreDamagedError(path) from error
        text = f"{path}: {_WORDS.get(code, f'SQLite says: {error}')}"
        raise (StoreFullError if code == sqlite3.SQLITE_FULL else StoreError)(text) from error


_NOT_UTF_8 = "Could not decode to UTF-8"
"""How Python tells of text that is none."""
