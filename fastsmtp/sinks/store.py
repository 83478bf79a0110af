"""Mail on disk: one SQLite file, one row for each recipient's message, in the order of arrival.

What all recipients of a message share is in the file once, and in memory once where they are read
together. Takes batches of `Outgoing`: when `add` has returned, the batch is on the disk and
survives a power cut (WAL, synchronous FULL); when it raised, nothing of it is stored. Several
processes may use one file at once; a call waits up to `BUSY_TIMEOUT` for the others.
Knows neither threads, event loops nor SMTP. An instance belongs to one thread at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from time import time
from typing import Any, NamedTuple
from zlib import crc32

from fastsmtp._tail import Reader, Tail
from fastsmtp.payload import Outgoing
from fastsmtp.route import Route
from fastsmtp.sinks import row_headers
from fastsmtp.sinks.arrivals import Put
from fastsmtp.sinks.inserts import Insert
from fastsmtp.sinks.row_checksum import check_row, of_row
from fastsmtp.sinks.store_errors import StoreDamagedError, StoreFullError, explained
from fastsmtp.sinks.store_file import MAX_SIZE, STEP, StoreFile
from fastsmtp.sinks.store_schema import ELSEWHERE

HEAD = 16 * 1024
"""Octets of a tail that a list reads."""

LARGE = 1 << 20
"""Octets of a tail from which on it is written into the file in place, slice by slice: binding it
would make whole copies of it in memory."""

SLICE = 256 * 1024
"""Bytes of such a slice."""

_PLAIN = "INSERT INTO messages (id, priority, encoding, stored, prefix, tail, checksum) VALUES "
_FULL = _PLAIN.replace(") VALUES", ", exchange, routing_key, headers, seq, content) VALUES")
_CONTENTS = "INSERT INTO contents (id, tail) VALUES "

_NEXT = """
SELECT 1 + max(
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'messages'), 0),
    coalesce((SELECT max(seq) FROM messages), 0)
)
"""
"""The seq that SQLite would give to the next row."""

_COLUMNS = (
    "seq, id, priority, encoding, stored, prefix, tail, exchange, routing_key, headers, checksum, "
    "content"
)
"""What `_messages` makes a message of."""

_WITH_CONTENTS = "messages LEFT JOIN contents ON contents.id = content"
_TAIL_SIZE = "coalesce(length(contents.tail), length(messages.tail))"  # reads no tail


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

    def add(self, rows: Sequence[Outgoing], mark: Callable[[int], None] | None = None) -> None:
        """Store `rows`, all or none, and return when they are on the disk.

        `mark` is told the seq of the first, behind which the others follow, and may write more.
        Raises StoreFullError or StoreError; no body may be larger than `max_body`.
        """
        self._file.check()
        holders = _holders(rows)
        octets = _octets(rows, holders)
        try:
            self._add(rows, holders, octets, mark)
        except StoreFullError:
            with explained(self.path):
                self._file.shrink(octets, len(rows))
            self._add(rows, holders, octets, mark)

    def add_all(self, puts: Sequence[Put]) -> None:
        """Store all rows of `puts`; see `add`."""
        self.add([row for put in puts for row in put.rows])

    def can_hold(self, rows: Sequence[Outgoing]) -> bool:
        """Whether `rows` would fit if nothing else were stored; an estimate."""
        return self._file.can_hold(_octets(rows, _holders(rows)), len(rows))

    def _add(
        self,
        rows: Sequence[Outgoing],
        holders: dict[int, int],
        octets: int,
        mark: Callable[[int], None] | None,
    ) -> None:
        with explained(self.path):
            self._file.limit_pages(octets, len(rows))
            with self._file.writing(rows[-1].id):
                self._insert(rows, holders, int(time()))
                if mark is not None:
                    last = int(self._file.value("SELECT last_insert_rowid()"))
                    mark(last - len(rows) + 1)

    def _insert(self, rows: Sequence[Outgoing], holders: dict[int, int], now: int) -> None:
        if holders or any(row.route or row.fingerprint for row in rows):
            self._add_full(rows, holders, now)
            return
        insert = Insert(self._db, _PLAIN, 7)
        for row in rows:
            tail = bytes(row.tail)
            key, at = (row.id, row.priority, row.encoding), row.accepted or now
            checksum = of_row(*key, row.prefix, crc32(tail))
            insert.add((*key, at, row.prefix, tail, checksum), len(tail))
        insert.flush()

    def _add_full(self, rows: Sequence[Outgoing], holders: dict[int, int], now: int) -> None:
        """Insert rows of which some name a content, or have a route or a fingerprint.

        The other columns cost time: a batch that does without them does not come here.
        """
        first = self._file.value(_NEXT)
        checksums = self._add_contents(
            [(first + n, rows[n].tail) for n, holder in holders.items() if n == holder]
        )
        insert = Insert(self._db, _FULL, 12)
        for n, row in enumerate(rows):
            content = first + holders[n] if n in holders else None
            tail = bytes(row.tail) if content is None else ELSEWHERE
            of_tail = crc32(tail) if isinstance(tail, bytes) else checksums[content or 0]
            route = (row.route.exchange, row.route.routing_key) if row.route else (None, None)
            key = (row.id, row.priority, row.encoding)
            headers = row_headers.of(row)
            checksum = of_row(*key, row.prefix, of_tail, route[0], route[1], headers)
            size = row.tail.size if content is None else 0
            at = row.accepted or now
            plain = (*key, at, row.prefix, tail, checksum)
            insert.add((*plain, *route, headers, first + n, content), size)
        insert.flush()

    def _add_contents(self, contents: list[tuple[int, Tail]]) -> dict[int, int]:
        """Insert them; gives the checksum of each."""
        checksums = {}
        insert = Insert(self._db, _CONTENTS, 2)
        for id, tail in contents:
            if tail.size < LARGE:
                text = bytes(tail)
                checksums[id] = crc32(text)
                insert.add((id, text), tail.size)
        insert.flush()
        for id, tail in contents:
            if tail.size >= LARGE:
                self._db.execute(_CONTENTS + "(?,zeroblob(?))", (id, tail.size))
                checksum, rest = 0, Reader(tail)
                with self._db.blobopen("contents", "tail", id) as blob:
                    while rest.left:
                        part = rest.read(SLICE)
                        checksum = crc32(part, checksum)
                        blob.write(part)
                checksums[id] = checksum
        return checksums

    def delete(self, ids: Iterable[str]) -> int:
        """Delete these messages in one transaction; how many there were. Raises StoreError."""
        with explained(self.path), self._file.writing():
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
                with self._file.writing():
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

    def oldest(self) -> int:
        """When the oldest message was stored, in seconds since 1970; 0: none. Raises StoreError."""
        with explained(self.path):
            return int(
                self._file.value(
                    "SELECT coalesce((SELECT stored FROM messages ORDER BY seq LIMIT 1), 0)"
                )
            )

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
        with explained(self.path, reads=True), self._file.transaction("DEFERRED"):
            rows = self._db.execute(
                f"SELECT seq, messages.id, stored, length(prefix) + {_TAIL_SIZE}, prefix, content, "
                "priority, encoding, exchange, routing_key, headers, checksum "
                f"FROM {_WITH_CONTENTS} WHERE seq > ? ORDER BY seq LIMIT ?",
                (after, limit),
            )
            for seq, id, stored, size, prefix, content, priority, encoding, *rest, checksum in rows:
                place = (
                    ("messages", "tail", seq) if content is None else ("contents", "tail", content)
                )
                with self._db.blobopen(*place, readonly=True) as tail:
                    head = tail.read(HEAD)
                if len(prefix) + len(head) == size:
                    row = (id, priority, encoding, prefix, crc32(head), *rest)
                    check_row(self.path, checksum, *row)
                found.append(Entry(seq, id, stored, size, prefix + head))
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
        with explained(self.path, reads=True):
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM messages WHERE id = ?", (id,))
            return next((message for _, message in self._messages(rows)), None)

    def after(self, seq: int, limit: int, octets: int) -> list[tuple[int, Outgoing]]:
        """The next messages behind `seq`, each with its own seq, oldest first.

        At most `limit`, together `octets` of memory: those that share a content have one `tail`
        object. The first is given however large it is. Empty: there is none now. Raises StoreError.
        """
        with explained(self.path, reads=True), self._file.transaction("DEFERRED"):
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM messages WHERE seq > ? AND seq <= ? ORDER BY seq",
                (seq, self._last_within(seq, limit, octets)),
            )
            return list(self._messages(rows))

    def _last_within(self, seq: int, limit: int, octets: int) -> int | None:
        """The seq of the last row behind `seq` that fits; None where there is no row."""
        last = known = None
        sizes = self._db.execute(
            f"SELECT seq, length(prefix), {_TAIL_SIZE}, content FROM {_WITH_CONTENTS} "
            "WHERE seq > ? ORDER BY seq LIMIT ?",
            (seq, limit),
        )
        for each, prefix, tail, content in sizes:
            octets -= prefix
            if content is None or content != known:
                octets -= tail
                known = content
            if last is not None and octets < 0:
                break
            last = each
        return last

    def _messages(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, Outgoing]]:
        """What rows of `_COLUMNS` hold. Those that share a content follow each other."""
        known, shared, of_shared = None, Tail.of(b""), 0
        for seq, id, priority, encoding, at, prefix, own, *rest, checksum, content in rows:
            if content is not None and content != known:
                text = self._content(content, id)
                known, shared, of_shared = content, Tail.of(text), crc32(text)
            tail, of_tail = (own, crc32(own)) if content is None else (shared, of_shared)
            check_row(self.path, checksum, id, priority, encoding, prefix, of_tail, *rest)
            exchange, key, headers = rest
            route = None if exchange is None else Route.of(exchange, key)
            mark = row_headers.fingerprint(headers)
            if mark is None:
                raise StoreDamagedError(f"{self.path}: message {id} has unreadable headers")
            yield seq, Outgoing(id, priority, encoding, prefix, tail, route, at, mark)

    def _content(self, content: int, id: str) -> bytes:
        for (tail,) in self._db.execute("SELECT tail FROM contents WHERE id = ?", (content,)):
            return bytes(tail)
        raise StoreDamagedError(f"{self.path}: message {id} has lost its content")

    def room(self) -> int:
        """Octets that fit still, by the limit and by the disk; an estimate. Raises StoreError."""
        with explained(self.path):
            return self._file.room()

    def checkpoint(self) -> None:
        """Bring the WAL into the file and empty it, where no reader is in the way."""
        with explained(self.path):
            self._file.checkpoint()

    def known(self, ids: Iterable[str]) -> set[str]:
        """Those that are stored. Raises StoreError."""
        with explained(self.path):
            return {id for id in ids if self._file.has(id)}

    def is_sound(self, goes_on: Callable[[], bool]) -> bool:
        """Whether SQLite finds no damage; may read the whole file, until `goes_on` says no."""
        with explained(self.path):
            return self._file.is_sound(goes_on)

    def set_aside(self) -> str | None:
        """Rename the file, which is damaged; gives its new name, None where another process did.

        Raises OSError. `close` it then, and open a new one.
        """
        return self._file.set_aside()

    def close(self) -> None:
        """Let go of the file; whoever is the last to do so brings the WAL into it."""
        self._file.close()


def _octets(rows: Sequence[Outgoing], holders: dict[int, int]) -> int:
    """Octets of the rows' bodies in the file: a tail that rows share counts once."""
    octets = sum([row.size for row in rows])
    return octets - sum([rows[n].tail.size for n, holder in holders.items() if n != holder])


def _holders(rows: Sequence[Outgoing]) -> dict[int, int]:
    """For each row whose tail goes into `contents`, the first row with that tail; by their places.

    Rows of one message follow each other and share one `tail` object.
    """
    holders = {}
    first, previous = 0, None
    for place, row in enumerate(rows):
        if row.tail is previous:
            holders[first] = holders[place] = first
        else:
            first, previous = place, row.tail
            if previous.size >= LARGE:
                holders[place] = place
    return holders
