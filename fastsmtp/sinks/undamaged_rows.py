"""The messages of a queue file that is damaged: those of which every page is whole.

Takes the path of the file; its write-ahead log is read with it, and one of the two may be missing.
Finds rows by their shape, so header, schema and the upper pages of the trees are not needed. A row
counts where its checksum proves it, or, in files of an older fastsmtp, where its body is JSON. What
was deleted stays so wherever undamaged pages tell that it was; else it may come back.
Opens nothing with SQLite, changes nothing, and holds one body at a time in memory.
"""

import sqlite3
import struct
from collections.abc import Iterator
from typing import NamedTuple

import orjson

from fastsmtp._tail import Tail
from fastsmtp.payload import Outgoing
from fastsmtp.route import Route
from fastsmtp.sinks import btree_cells, row_checksum, row_headers
from fastsmtp.sinks.btree_cells import (
    Cell,
    Column,
    cell_at,
    cells,
    is_blob,
    is_integer,
    is_text,
    kind_of,
    value,
)
from fastsmtp.sinks.database_pages import FIRST_OVERFLOW, OVERFLOW, DatabasePages, Version
from fastsmtp.sinks.store_file import PAGE_SIZE

LONGEST_JSON = 16 << 20
"""Octets of a body without a checksum that is parsed: that takes several times as much memory."""

TAIL = 6
"""The column of `messages` that is the tail, behind seq, id, priority, encoding, stored, prefix."""

ROOT_OF_IDS = 4
"""The page that the index of `messages.id` begins at: it is the second tree of every queue file."""

_INDEX = """
CREATE TABLE rows (seq INTEGER, page INTEGER, at INTEGER, place INTEGER);
CREATE TABLE contents (id INTEGER, page INTEGER, at INTEGER, place INTEGER);
CREATE TABLE missing (seq INTEGER PRIMARY KEY);
"""


class Row(NamedTuple):
    """A message that was found."""

    seq: int
    message: Outgoing


class _Shared(NamedTuple):
    """A content that was read."""

    id: int
    tail: Tail
    checksum: int


class UndamagedRows:
    """What is whole in the file at `path`, in the order of arrival. To be gone through once."""

    def __init__(self, path: str) -> None:
        """Looks at each page once. Raises OSError, or sqlite3.Error (no room for a temporary file).

        `path` and its log must not be written meanwhile.
        """
        self._pages = DatabasePages(path, PAGE_SIZE)
        self._index = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        """Where each row is; on the disk where that is too much for the memory."""
        self._shared: _Shared | None = None
        self._parsed: Tail | None = None  # the last one of a body that is JSON
        try:
            self._index.executescript(_INDEX)
            self._index.execute("BEGIN")
            for version in self._pages.in_use():
                self._add_page(version)
            self._index.execute("CREATE INDEX by_seq ON rows (seq)")
            self._index.execute("CREATE INDEX by_id ON contents (id)")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the files."""
        self._pages.close()
        self._index.close()

    @property
    def number(self) -> int:
        """Messages of which something was found, at most."""
        (number,) = self._index.execute("SELECT count(DISTINCT seq) FROM rows").fetchone()
        return int(number)

    @property
    def missing(self) -> int:
        """Messages that were in the file and have not been given (yet), as far as that is known."""
        (number,) = self._index.execute("SELECT count(*) FROM missing").fetchone()
        return int(number)

    def __iter__(self) -> Iterator[Row]:
        last, ids = 0, set[str]()
        for seq, *where in self._index.execute(
            "SELECT seq, page, at, place FROM rows ORDER BY seq, rowid"
        ):
            if seq != last:
                last, ids = seq, set()
            row = self._row(*where)
            if row and row.message.id not in ids:
                ids.add(row.message.id)
                self._index.execute("DELETE FROM missing WHERE seq = ?", (seq,))
                yield row

    # Where everything is

    def _add_page(self, version: Version) -> None:
        page = self._pages.version(version.number, version.offset)
        if page is None:
            return
        kind = kind_of(version.number, page)
        if kind == btree_cells.TABLE_LEAF:
            for cell in cells(version.number, page):
                self._add_cell(version, cell)
        elif (
            kind in (btree_cells.INDEX_LEAF, btree_cells.INDEX_INTERIOR)
            and version.is_sure
            and self._pages.root(version.number) == ROOT_OF_IDS
        ):
            for cell in cells(version.number, page):
                self._add_name(cell)

    def _add_cell(self, version: Version, cell: Cell) -> None:
        columns = btree_cells.columns(cell.local, cell.size)
        if columns is None:
            return
        where = cell.rowid, cell.number, -1 if version.offset is None else version.offset
        if _is_message(columns):
            self._index.execute("INSERT INTO rows VALUES (?,?,?,?)", (*where, cell.place))
            if version.is_sure:
                self._add_missing(cell.rowid)
        elif _is_content(columns):
            self._index.execute("INSERT INTO contents VALUES (?,?,?,?)", (*where, cell.place))

    def _add_name(self, cell: Cell) -> None:
        """The index of the ids tells which messages there were."""
        columns = btree_cells.columns(cell.local, cell.size)
        if not columns or len(columns) != 2 or cell.overflow:
            return
        if is_text(columns[0].kind) and is_integer(columns[1].kind):
            self._add_missing(value(cell.local, columns[1]))

    def _add_missing(self, seq: object) -> None:
        self._index.execute("INSERT OR IGNORE INTO missing VALUES (?)", (seq,))

    # What is there

    def _row(self, page: int, at: int, place: int) -> Row | None:
        """The message there, where all of it is whole."""
        cell = self._cell(page, at, place)
        record = cell and self._record(cell)
        if not cell or record is None:
            return None
        columns = btree_cells.columns(record, cell.size)
        if columns is None or not _is_message(columns):
            return None
        own = columns[TAIL]
        try:
            values = [
                None if n == TAIL else value(record, one) for n, one in enumerate(columns[:12])
            ]
        except UnicodeDecodeError:
            return None
        values += [None] * (12 - len(values))
        content = values[11]
        if not isinstance(content, int):
            del record[own.start + own.size :], record[: own.start]
            tail = Tail.of(record)
            return self._proven(cell.rowid, values, tail, row_checksum.of_tail(tail))
        for shared in self._contents(content):
            row = self._proven(cell.rowid, values, shared.tail, shared.checksum)
            if row:
                self._shared = shared
                return row
        return None

    def _proven(
        self,
        seq: int,
        values: list[btree_cells.Value],
        tail: Tail,
        of_tail: int,
    ) -> Row | None:
        """The message with this tail, where its checksum is right, or its body is JSON."""
        _, id, priority, encoding, stored, prefix, _, exchange, key, headers, checksum, _ = values
        assert isinstance(id, str)
        assert isinstance(encoding, str)
        assert isinstance(prefix, bytes)
        assert isinstance(stored, int)
        assert priority is None or isinstance(priority, int)
        assert exchange is None or isinstance(exchange, str)
        assert headers is None or isinstance(headers, str)
        assert key is None or isinstance(key, str)
        if not (id.isascii() and id.isalnum()):
            return None
        route = None if exchange is None else Route.of(exchange, key or "")
        mark = row_headers.fingerprint(headers)
        if mark is None:
            return None
        row = Row(seq, Outgoing(id, priority, encoding, prefix, tail, route, stored, mark))
        if checksum is None:
            return row if self._is_json(row.message) else None
        found = row_checksum.of_row(id, priority, encoding, prefix, of_tail, exchange, key, headers)
        return row if found == checksum else None

    def _is_json(self, message: Outgoing) -> bool:
        """Whether the body is, where it is not too long to be looked at."""
        if message.size <= LONGEST_JSON and message.tail is not self._parsed:
            try:
                orjson.loads(bytes(message))
            except orjson.JSONDecodeError:
                return False
            self._parsed = message.tail
        return True

    def _contents(self, id: int) -> Iterator[_Shared]:
        """What may be the content of that id: once, but for damage."""
        if self._shared and self._shared.id == id:
            yield self._shared
        self._shared = None  # two would be in memory
        for where in self._index.execute(
            "SELECT page, at, place FROM contents WHERE id = ? ORDER BY rowid", (id,)
        ):
            cell = self._cell(*where)
            record = cell and self._record(cell)
            columns = cell and record and btree_cells.columns(record, cell.size)
            if record and columns:
                del record[: columns[1].start]
                tail = Tail.of(record)
                yield _Shared(id, tail, row_checksum.of_tail(tail))

    def _cell(self, page: int, at: int, place: int) -> Cell | None:
        octets = self._pages.version(page, None if at < 0 else at)
        if octets is None:
            return None
        return cell_at(page, octets, place)

    def _record(self, cell: Cell) -> bytearray | None:
        """All of it, or None where some of it is not there."""
        if cell.size > self._pages.most_bytes:
            return None
        record = bytearray(cell.local)
        use, next = (FIRST_OVERFLOW, cell.number), cell.overflow
        while len(record) < cell.size:
            page = self._pages.read(next)
            if page is None or self._pages.use(next) not in (None, use):
                return None
            record += page[4 : 4 + cell.size - len(record)]
            use = OVERFLOW, next
            (next,) = struct.unpack(">I", page[:4])
        return record


def _is_message(columns: list[Column]) -> bool:
    kinds = [column.kind for column in columns]
    if len(kinds) < 7:
        return False
    elsewhere = is_integer(kinds[TAIL]) and len(kinds) > 11 and is_integer(kinds[11])
    return (
        kinds[0] == 0
        and is_text(kinds[1])
        and (kinds[2] == 0 or is_integer(kinds[2]))
        and is_text(kinds[3])
        and is_integer(kinds[4])
        and is_blob(kinds[5])
        and (is_blob(kinds[TAIL]) or elsewhere)
        and all(kind == 0 or is_text(kind) for kind in kinds[7:10])
        and all(kind == 0 or is_integer(kind) for kind in kinds[10:12])
    )


def _is_content(columns: list[Column]) -> bool:
    return len(columns) == 2 and columns[0].kind == 0 and is_blob(columns[1].kind)
