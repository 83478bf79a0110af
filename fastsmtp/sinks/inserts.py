"""Rows on their way into a table of SQLite, many in a statement."""

from itertools import chain
from sqlite3 import Connection

ROWS_PER_INSERT = 64
"""Each statement lets go of the GIL, and may have to wait 5 ms to get it back from a busy loop."""

BYTES_PER_INSERT = 1 << 20
"""A statement takes no further row once its tails have as much: binding copies them."""


class Insert:
    """Rows that go into one table within the transaction that is open."""

    def __init__(self, db: Connection, into: str, columns: int) -> None:
        """`into` is the statement up to its values."""
        self._db = db
        self._into = into
        self._place = f"({','.join('?' * columns)})"
        self._rows: list[tuple[object, ...]] = []
        self._bytes = 0

    def add(self, row: tuple[object, ...], size: int) -> None:
        """Insert `row`, of which `size` bytes count, now or later."""
        self._rows.append(row)
        self._bytes += size
        if len(self._rows) == ROWS_PER_INSERT or self._bytes >= BYTES_PER_INSERT:
            self.flush()

    def flush(self) -> None:
        """Insert what has not been inserted yet."""
        if self._rows:
            places = ",".join([self._place] * len(self._rows))
            self._db.execute(self._into + places, [*chain.from_iterable(self._rows)])
            self._rows.clear()
            self._bytes = 0
