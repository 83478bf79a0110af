"""The pages of a SQLite file that may be damaged, read without SQLite.

Takes the path of a database file; its write-ahead log is read with it. Gives the newest version of
each page, and whether it is in use, as far as what is undamaged tells. Changes nothing, and holds
one page at a time.
https://www.sqlite.org/fileformat2.html
"""

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from fastsmtp.sinks.wal_pages import WalPages

MAGIC = b"SQLite format 3\0"

SIZES = frozenset(1 << n for n in range(9, 16))
"""Bytes of a page; SQLite knows 65,536 too, fastsmtp never wrote it."""

MAP, ROOT, FREE, FIRST_OVERFLOW, OVERFLOW, BTREE = range(6)
"""What a page is for, as a pointer map says it; `MAP` is a page of the pointer map itself."""

DEEPEST = 20
"""Pages from the root of a tree to its leaves, at most (SQLite's BTCURSOR_MAX_DEPTH)."""

Use = tuple[int, int]
"""What a page is for, and the page that it belongs to."""


class Version(NamedTuple):
    """A page as some transaction left it."""

    number: int
    offset: int | None  # in the log; None: in the file
    is_sure: bool  # it is the newest one, and in use


class DatabasePages:
    """An open file; either of it and its log may be missing, or be no SQLite file (any more)."""

    def __init__(self, path: str, page_size: int) -> None:
        """`page_size` is the size where neither file nor log tells. Raises OSError."""
        self._wal = WalPages(path + "-wal")
        self._descriptor: int | None = None
        with suppress(FileNotFoundError):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        header = self._pread(100, 0)
        self.has_header = header[:16] == MAGIC and header[21:24] == b"\x40\x20\x20"
        told = int.from_bytes(header[16:18], "big")
        self.has_header = self.has_header and told in SIZES
        self.page_size = told if self.has_header else self._wal.page_size or page_size
        self._wal.index(self.page_size)
        size = os.fstat(self._descriptor).st_size if self._descriptor is not None else 0
        self._in_file = size // self.page_size  # pages
        self.count = self._in_file if self._wal.pages is None else self._wal.pages
        """Number of the last page; those of a commit that may not be whole can be beyond."""
        if not self._wal.is_whole:
            self.count = max(self.count, self._in_file)
        self._has_map = not self.has_header or header[52:56] != bytes(4)
        self._entries = lru_cache(maxsize=16)(self._map_entries)
        is_sure = self.has_header and self._wal.is_whole
        self._free = self._free_pages(header) if is_sure else set()

    def close(self) -> None:
        """Let go of the file and its log."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._wal.close()

    def read(self, number: int) -> bytes | None:
        """The newest version of a page; None where it is missing."""
        return self.version(number, self._wal.newest.get(number))

    def version(self, number: int, offset: int | None) -> bytes | None:
        """The version of a page that is at `offset` of the log; None: the one in the file."""
        if offset is not None:
            return self._wal.read(offset)
        return self._from_file(number) if 0 < number <= self.count else None

    def in_use(self) -> Iterator[Version]:
        """All pages of which it is not known that they are free, or part of a long value.

        Of some pages there is more than one version, where it is unknown which one is right.
        """
        newest = self._wal.newest
        in_file = min(self.count, self._in_file)
        for number in chain(range(1, in_file + 1), sorted(n for n in newest if n > in_file)):
            use = self.use(number)
            if number not in self._free if use is None else use[0] in (ROOT, BTREE):
                is_sure = number <= self.count and (number == 1 or use is not None)
                yield Version(number, newest.get(number), is_sure)
        for number, offset in self._wal.others:
            yield Version(number, offset, False)

    def use(self, number: int) -> Use | None:
        """What a page is for; None where that is unknown."""
        if not self._has_map or number < 2:
            return None
        each = self.page_size // 5 + 1  # a map, and the pages that it is about
        of = (number - 2) // each * each + 2
        of += of == self._lock_page
        if number <= of:
            return MAP, 0
        entries = self._entries(of)
        if entries is None:
            return None
        kind, parent = struct.unpack_from(">BI", entries, 5 * (number - of - 1))
        return (kind, parent) if kind else None

    def root(self, number: int) -> int | None:
        """The page at which the tree of a page begins; None where that is unknown."""
        for _ in range(DEEPEST):
            use = self.use(number)
            if use is None or use[0] not in (ROOT, BTREE):
                return None
            if use[0] == ROOT:
                return number
            number = use[1]
        return None

    @property
    def most_bytes(self) -> int:
        """No value is longer."""
        return (self._in_file + len(self._wal.newest)) * self.page_size

    @property
    def _lock_page(self) -> int:
        """SQLite never uses the page at 1 GiB."""
        return (1 << 30) // self.page_size + 1

    def _map_entries(self, number: int) -> bytes | None:
        """A page of the pointer map, or None where it is none, or not whole."""
        page = self.read(number)
        if page is None or not self._wal.is_sure(number):
            return None
        entries = page[: self.page_size // 5 * 5]
        parents_needed = (FIRST_OVERFLOW, OVERFLOW, BTREE)
        for kind, parent in struct.iter_unpack(">BI", entries):
            if kind > BTREE or (kind in parents_needed) != bool(parent):
                return None
        return entries

    def _free_pages(self, header: bytes) -> set[int]:
        """The list of free pages, as far as it can be followed."""
        page = self.read(1)
        if page and page[:16] == MAGIC:  # that in the log may be newer
            header = page
        found: set[int] = set()
        (trunk,) = struct.unpack(">I", header[32:36])
        while 1 < trunk <= self.count and trunk not in found:
            page = self.read(trunk)
            if page is None:
                break
            next, number = struct.unpack(">II", page[:8])
            if number > self.page_size // 4 - 2 or next > self.count:
                break
            leaves = struct.unpack(f">{number}I", page[8 : 8 + 4 * number])
            if not all(1 < leaf <= self.count for leaf in leaves):
                break
            found.add(trunk)
            found.update(leaves)
            trunk = next
        return found

    def _from_file(self, number: int) -> bytes | None:
        page = self._pread(self.page_size, (number - 1) * self.page_size)
        return page if len(page) == self.page_size else None

    def _pread(self, size: int, offset: int) -> bytes:
        return b"" if self._descriptor is None else os.pread(self._descriptor, size, offset)
