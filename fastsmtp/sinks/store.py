"""Mail on disk: one SQLite file, one row for each recipient's message, in the order of arrival.

Takes batches of `Outgoing`: when `add` has returned, the batch is on the disk and survives a power
cut (WAL, synchronous FULL); when it raised, nothing of it is stored. Several processes may use one
file at once; a call waits up to `BUSY_TIMEOUT` for the others.
Knows neither threads, event loops nor SMTP. An instance belongs to one thread at a time.
"""

from collections.abc import Iterable, Sequence
from time import time
from typing import Any, NamedTuple

from fastsmtp.payload import Outgoing
from fastsmtp.sinks.store_errors import StoreFullError, explained
from fastsmtp.sinks.store_file import MAX_SIZE, STEP, StoreFile

HEAD = 16 * 1024
"""Octets of a tail that a list reads."""

LARGE = 1 << 20
"""Octets of a tail from which on it is copied into the file in place: binding it would make two
more copies of it in memory."""

ROWS_PER_INSERT = 64
"""Each statement lets go of the GIL, and may have to wait 5 ms to get it back from a busy loop."""

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
        self._file = StoreFile(path, maxsize, create=create)
        self._db = self._file.db
        self.path = self._file.path
        self.max_body = self._file.max_body
        """Octets of the largest body that a row takes: SQLite's limit and `maxsize` set it."""

    # Writing

    def add(self, rows: Sequence[Outgoing]) -> None:
        """Store `rows`, all or none, and return when they are on the disk.

        Raises StoreFullError or StoreError; no body may be larger than `max_body`.
        """
        self._file.check()
        octets = sum([len(row.prefix) + len(row.tail) for row in rows])
        try:
            self._add(rows, octets)
        except StoreFullError:
            with explained(self.path):
                self._file.shrink(octets, len(rows))
            self._add(rows, octets)

    def _add(self, rows: Sequence[Outgoing], octets: int) -> None:
        now = int(time())
        with explained(self.path):
            self._file.limit_pages(octets, len(rows))
            with self._file.transaction():
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
            seq = self._file.value("SELECT seq FROM messages WHERE id = ?", row.id)
            with self._db.blobopen("messages", "tail", seq) as blob:
                blob.write(row.tail)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete these messages in one transaction; how many there were. Raises StoreError."""
        with explained(self.path), self._file.transaction():
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
            last = self._file.value("SELECT max(seq) FROM messages")
            while last is not None:
                with self._file.transaction():
                    step = self._db.execute(
                        "DELETE FROM messages WHERE seq IN (SELECT seq FROM messages "
                        "WHERE seq <= ? ORDER BY seq LIMIT ?)",
                        (last, STEP),
                    ).rowcount
                if not step:
                    break
                deleted += step
            self._file.give_back()
        return deleted

    # Reading

    def count(self) -> int:
        """How many messages are stored. Raises StoreError."""
        with explained(self.path):
            return int(self._file.value("SELECT count(*) FROM messages"))

    def span(self) -> int:
        """Messages from the oldest to the newest, deleted ones between them too. Raises StoreError.

        Looks at two rows, where `count` reads an index of them all; 0 where there is none.
        """
        with explained(self.path):
            return int(
                self._file.value(
                    "SELECT coalesce((SELECT max(seq) FROM messages) "
                    "- (SELECT min(seq) FROM messages) + 1, 0)"
                )
            )

    def octets(self) -> int:
        """Of disk that the file takes now, its WAL included. Raises StoreError."""
        self._file.check()
        return self._file.octets()

    def entries(self, after: int = 0, limit: int = 500) -> list[Entry]:
        """Up to `limit` rows behind `after` (a seq), oldest first. Raises StoreError.

        Short, as the WAL cannot be emptied while somebody reads: ask again for more.
        """
        found = []
        with explained(self.path), self._file.transaction("DEFERRED"):
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
            return int(self._file.value("SELECT coalesce(max(seq), 0) FROM messages"))

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
        with explained(self.path), self._file.transaction("DEFERRED"):
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
            return self._file.room()

    def checkpoint(self) -> None:
        """Bring the WAL into the file and empty it, where no reader is in the way."""
        with explained(self.path):
            self._file.checkpoint()

    def close(self) -> None:
        """Let go of the file; whoever is the last to do so brings the WAL into it."""
        self._file.close()
