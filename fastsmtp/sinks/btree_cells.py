"""Cells of a SQLite b-tree page and the records in them, where the page may be damaged.

Takes a page's bytes; gives what lies within the page and makes sense, and leaves out the rest.
Reads no file: who can read pages gets the rest of a long record.
https://www.sqlite.org/fileformat2.html#b_tree_pages
"""

from collections.abc import Iterator
from typing import NamedTuple

INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF = 2, 5, 10, 13

FILE_HEADER = 100
"""Bytes at the beginning of the first page."""

Value = None | int | str | bytes


class Cell(NamedTuple):
    """An entry of a leaf, or of an index."""

    rowid: int  # 0 in an index
    size: int  # bytes of its record
    local: bytes  # what of it is in the page
    overflow: int  # the page that goes on with it; 0: none
    number: int  # of its page
    place: int  # among the cells of the page


class Column(NamedTuple):
    """Where a record has a value."""

    kind: int  # serial type
    start: int
    size: int


def kind_of(number: int, page: bytes) -> int:
    """What sort of page it is, if it is of a b-tree."""
    return page[FILE_HEADER if number == 1 else 0]


def cells(number: int, page: bytes) -> Iterator[Cell]:
    """The cells of a table's leaf, or of any page of an index."""
    for place in range(min(count(number, page), len(page) // 2)):
        cell = cell_at(number, page, place)
        if cell:
            yield cell


def count(number: int, page: bytes) -> int:
    """How many cells the page says that it has."""
    start = FILE_HEADER if number == 1 else 0
    return int.from_bytes(page[start + 3 : start + 5], "big")


def cell_at(number: int, page: bytes, place: int) -> Cell | None:
    """One of them, if it makes sense."""
    kind = kind_of(number, page)
    first = (FILE_HEADER if number == 1 else 0) + (12 if kind == INDEX_INTERIOR else 8)
    at = int.from_bytes(page[first + 2 * place : first + 2 * place + 2], "big")
    if at < first + 2 * count(number, page):
        return None
    try:
        if kind == INDEX_INTERIOR:
            at += 4  # the page below it
        size, at = varint(page, at)
        rowid = 0
        if kind == TABLE_LEAF:
            rowid, at = varint(page, at)
    except IndexError:
        return None
    inside = _local(size, len(page), kind)
    end = at + inside
    if end + (4 if inside < size else 0) > len(page):
        return None
    overflow = 0
    if inside < size:
        overflow = int.from_bytes(page[end : end + 4], "big")
        if not overflow:
            return None
    return Cell(rowid, size, page[at:end], overflow, number, place)


def _local(size: int, usable: int, kind: int) -> int:
    """Bytes of a record of `size` bytes that are in its page."""
    most = usable - 35 if kind == TABLE_LEAF else (usable - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (usable - 12) * 32 // 255 - 23
    inside = least + (size - least) % (usable - 4)
    return inside if inside <= most else least


def columns(local: bytes | bytearray, size: int) -> list[Column] | None:
    """Where the record's values are; None where what it says of them makes no sense."""
    try:
        start, at = varint(local, 0)
        found = []
        end = start
        while at < start:
            kind, at = varint(local, at)
            width = _width(kind)
            if width is None:
                return None
            found.append(Column(kind, end, width))
            end += width
    except IndexError:
        return None
    return found if at == start and end == size else None


def _width(kind: int) -> int | None:
    """Bytes of a value of that serial type."""
    if kind >= 12:
        return (kind - 12) // 2
    return (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, None, None)[kind]


def is_integer(kind: int) -> bool:
    """Whether values of that serial type are whole numbers."""
    return 1 <= kind <= 6 or kind in (8, 9)


def is_blob(kind: int) -> bool:
    """Whether values of that serial type are bytes."""
    return kind >= 12 and not kind & 1


def is_text(kind: int) -> bool:
    """Whether values of that serial type are text."""
    return kind >= 13 and bool(kind & 1)


def value(record: bytes | bytearray, column: Column) -> Value:
    """The value there: no floating-point number. Raises UnicodeDecodeError."""
    kind, start, size = column
    if kind in (8, 9):
        return kind - 8
    octets = bytes(record[start : start + size])
    if is_text(kind):
        return octets.decode()
    if is_blob(kind):
        return octets
    return int.from_bytes(octets, "big", signed=True) if size else None


def varint(octets: bytes | bytearray, at: int) -> tuple[int, int]:
    """The number there, and where it ends. Raises IndexError."""
    number = 0
    for n in range(8):
        octet = octets[at + n]
        number = number << 7 | octet & 127
        if octet < 128:
            return number, at + n + 1
    return number << 8 | octets[at + 8], at + 9
