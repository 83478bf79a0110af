"""Looks, after a commit, whether the disk has what was committed, as far as a look is cheap.

Takes a queue file that a `Store` has open, and the id of a row that was just committed. Raises
StoreDamagedError where the first page is no longer the one of a queue file, or the row does not
come back as it was stored. Reads through descriptors and a connection of its own, which remember no
page: the connection that wrote would find everything in its memory.
"""

import os
import sqlite3
from pathlib import Path
from zlib import crc32

from fastsmtp.sinks import btree_cells
from fastsmtp.sinks.database_pages import MAGIC
from fastsmtp.sinks.row_checksum import SLICE, check_row
from fastsmtp.sinks.store_errors import BUSY_TIMEOUT, StoreDamagedError, explained
from fastsmtp.sinks.wal_pages import WalPages

_ROW = """
SELECT id, priority, encoding, prefix, tail, exchange, routing_key, headers, checksum, content
FROM messages WHERE id = ?
"""


class ReadBack:
    """Of one store: its thread's."""

    def __init__(self, path: str, descriptor: int, page_size: int) -> None:
        """The file has to be open already, as `descriptor`. Raises StoreError."""
        self._path = path
        self._descriptor = descriptor
        self._page_size = page_size
        self._seen = b""  # the tables in the first page, when they were last looked at
        with explained(path):
            self._db = sqlite3.connect(
                f"{Path(path).as_uri()}?mode=rw",
                uri=True,
                timeout=BUSY_TIMEOUT,
                isolation_level=None,
                check_same_thread=False,
            )
            self._db.execute("PRAGMA cache_size = 0")

    def check_first_page(self) -> None:
        """Raise StoreDamagedError where it is not what it was.

        SQLite itself would not look: it has read it once. Where the log has a newer version, that
        counts: a power cut may have left half of it in the file, and SQLite mends that.
        """
        why = self._why_damaged(self._first_page())
        if why:
            with explained(self._path):
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            why = self._why_damaged(self._first_page())
        if why and self._why_damaged(self._first_page_of_log()):
            raise StoreDamagedError(f"{self._path}: {why}")
        pages = int.from_bytes(self._first_page()[28:32], "big")
        # While another process brings the log into the file, this may be so for a moment.
        if os.fstat(self._descriptor).st_size < pages * self._page_size and not self._is_sound():
            raise StoreDamagedError(f"{self._path}: the end of the file is gone")

    def _first_page(self) -> bytes:
        return os.pread(self._descriptor, self._page_size, 0)

    def _first_page_of_log(self) -> bytes:
        log = WalPages(self._path + "-wal")
        try:
            log.index(self._page_size)
            offset = log.newest.get(1)
            return b"" if offset is None else log.read(offset)
        finally:
            log.close()

    def _why_damaged(self, page: bytes) -> str:
        """What is wrong with this first page; "": nothing."""
        if page[:18] != MAGIC + self._page_size.to_bytes(2, "big"):
            return "its header is gone"
        tables = page[btree_cells.FILE_HEADER :]
        if tables != self._seen:
            if not _are_tables(page):
                return "its tables are gone"
            self._seen = tables
        return ""

    def _is_sound(self) -> bool:
        with explained(self._path):
            return bool(self._db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")

    def check_row(self, id: str) -> bool:
        """Raise StoreDamagedError where the row is there, but not as stored; False: not there."""
        with explained(self._path, reads=True):
            row = self._db.execute(_ROW, (id,)).fetchone()
            if row is None:
                return False
            id, priority, encoding, prefix, tail, *rest, checksum, content = row
            of_tail = crc32(tail) if content is None else self._of_content(content, id)
            check_row(self._path, checksum, id, priority, encoding, prefix, of_tail, *rest)
        return True

    def _of_content(self, content: int, id: str) -> int:
        checksum = 0
        try:
            with self._db.blobopen("contents", "tail", content, readonly=True) as blob:
                while part := blob.read(SLICE):
                    checksum = crc32(part, checksum)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # no such row
                raise StoreDamagedError(f"{self._path}: message {id} has no content") from error
            raise
        return checksum

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def _are_tables(page: bytes) -> bool:
    """Whether all that the first page says of tables, indexes and triggers makes sense."""
    if btree_cells.kind_of(1, page) == btree_cells.TABLE_INTERIOR:
        return True
    found = list(btree_cells.cells(1, page))
    columns = [btree_cells.columns(cell.local, cell.size) for cell in found if not cell.overflow]
    return (
        btree_cells.kind_of(1, page) == btree_cells.TABLE_LEAF
        and len(found) == btree_cells.count(1, page)
        and all(one and len(one) == 5 and btree_cells.is_text(one[0].kind) for one in columns)
    )
