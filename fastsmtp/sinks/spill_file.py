"""A spill on disk: a store whose rows say from when on they may be published, and who still may.

A row that is held belongs to a process that has published it and waits for the broker's word; it
is published by nobody else. A process that holds rows keeps a lock for as long as it lives, so that
the rows of one that died are found. Publishes nothing itself.
"""

import secrets
from collections.abc import Iterable, Sequence
from time import time

from fastsmtp.payload import Outgoing
from fastsmtp.sinks.arrivals import Put
from fastsmtp.sinks.file_lock import FIRST_HOLDER, FileLock
from fastsmtp.sinks.store import Store
from fastsmtp.sinks.store_errors import explained
from fastsmtp.sinks.store_file import MAX_SIZE, STEP

HOLDERS = 1 << 60
"""How many numbers there are for processes that hold rows."""

FIRST_DELAY, LAST_DELAY = 5, 300
"""Seconds until a row that the broker did not take is tried again: doubled each time."""

LIMIT = "limit"
"""A fact: octets of the largest body that the broker takes, as it was last known."""


def new_holder(lock: FileLock) -> int:
    """The number of a process that may hold rows: it locks the octet of that number."""
    while True:
        holder = FIRST_HOLDER + secrets.randbelow(HOLDERS)
        if lock.take(holder):
            return holder


class SpillFile(Store):
    """One open file; `holder` is this process's, see `new_holder`."""

    def __init__(
        self,
        path: str,
        maxsize: int = MAX_SIZE,
        holder: int | None = None,
        *,
        create: bool = False,
    ) -> None:
        super().__init__(path, maxsize, create=create)
        self._holder = holder

    def add_all(self, puts: Sequence[Put]) -> None:
        """Store all rows of `puts`; those of a put that is held are held by this process."""
        holders = [self._holder if put.is_held else None for put in puts for _ in put.rows]

        def mark(first: int) -> None:
            rows = [(first + n, holder) for n, holder in enumerate(holders)]
            self._db.executemany("INSERT INTO spilled (seq, due, holder) VALUES (?, 0, ?)", rows)

        self.add([row for put in puts for row in put.rows], mark)

    def release(self, ids: Iterable[str]) -> None:
        """These are held no more. Raises StoreError."""
        with explained(self.path), self._file.writing():
            self._db.executemany(
                "UPDATE spilled SET holder = NULL "
                "WHERE seq = (SELECT seq FROM messages WHERE id = ?)",
                [(one,) for one in ids],
            )

    def release_dead(self, lock: FileLock) -> int:
        """Release the rows of processes that have ended; how many. Raises StoreError."""
        with explained(self.path):
            found = self._db.execute(
                "SELECT DISTINCT holder FROM spilled WHERE holder IS NOT NULL"
            ).fetchall()
            dead = [
                holder
                for (holder,) in found
                if holder != self._holder and not lock.is_taken(holder)
            ]
            released = 0
            for holder in dead:
                with self._file.writing():
                    released += self._db.execute(
                        "UPDATE spilled SET holder = NULL WHERE holder = ?", (holder,)
                    ).rowcount
        return released

    def adopt(self) -> int:
        """Let rows that were stored in another way be published, too; how many. In steps."""
        adopted = last = 0
        with explained(self.path):
            while True:
                rows = self._db.execute(
                    "SELECT seq FROM messages WHERE seq > ? ORDER BY seq LIMIT ?", (last, STEP)
                ).fetchall()
                if not rows:
                    return adopted
                with self._file.writing():
                    adopted += self._db.execute(
                        "INSERT OR IGNORE INTO spilled (seq, due) "
                        "SELECT seq, 0 FROM messages WHERE seq > ? AND seq <= ?",
                        (last, rows[-1][0]),
                    ).rowcount
                last = rows[-1][0]

    def due(self, limit: int) -> list[int]:
        """The seqs of rows that may be published now, those never tried first, oldest first."""
        with explained(self.path):
            rows = self._db.execute(
                "SELECT seq FROM spilled WHERE due <= ? AND holder IS NULL "
                "ORDER BY due, seq LIMIT ?",
                (int(time()), limit),
            )
            return [seq for (seq,) in rows]

    def read(self, seqs: Sequence[int], octets: int) -> list[tuple[int, Outgoing]]:
        """These rows, in their order, as far as they are there and within `octets` of memory.

        The first is given however large it is. Raises StoreError.
        """
        found: list[tuple[int, Outgoing]] = []
        for seq in seqs:
            for each in self.after(seq - 1, 1, 0):
                if each[0] == seq:
                    octets -= each[1].size
                    if found and octets < 0:
                        return found
                    found.append(each)
        return found

    def settle(self, published: Sequence[int], refused: Sequence[int]) -> None:
        """Delete rows that the broker has, put off those that it did not take."""
        now = int(time())
        with explained(self.path), self._file.writing():
            self._db.executemany(
                "DELETE FROM messages WHERE seq = ?", [(seq,) for seq in published]
            )
            self._db.executemany(
                "UPDATE spilled SET tries = tries + 1, "
                f"due = ? + min({LAST_DELAY}, {FIRST_DELAY} << min(tries, 10)) WHERE seq = ?",
                [(now, seq) for seq in refused],
            )

    def stuck(self) -> int:
        """Rows that the broker did not take when they were tried. Raises StoreError."""
        with explained(self.path):
            return int(self._file.value("SELECT count(*) FROM spilled WHERE due > 0"))

    def fact(self, name: str) -> int | None:
        """What was remembered under this name. Raises StoreError."""
        with explained(self.path):
            rows = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchall()
        return int(rows[0][0]) if rows else None

    def remember(self, name: str, value: int) -> None:
        """Keep a fact. Raises StoreError."""
        with explained(self.path), self._file.writing():
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
