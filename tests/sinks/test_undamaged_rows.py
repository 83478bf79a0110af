"""Rows of damaged files: every one that lies on undamaged pages comes back, and nothing else.

Which pages a row lies on is told by its content: the row's own mark, again and again.
"""

import gzip
import os
import random
import re
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fastsmtp._tail import Tail
from fastsmtp.payload import Outgoing
from fastsmtp.route import Route
from fastsmtp.sinks.store import LARGE, Store
from fastsmtp.sinks.store_file import PAGE_SIZE
from fastsmtp.sinks.undamaged_rows import Row, UndamagedRows
from tests.sinks import test_store_schema
from tests.support.damage import overwrite

FRAME = PAGE_SIZE + 24
SIZES = (1, 30, 700, 2500, 2500, 2500, 9000, 40_000)
ROUTES = (None, None, Route.of("", "inbox"), Route.of("mäil", "a.b"))
KINDS: tuple[Callable[[int], bytes], ...] = (bytes, os.urandom)

Fields = tuple[object, ...]


def fields(one: Outgoing) -> Fields:
    body = one.prefix, bytes(one.tail)
    return one.id, one.priority, one.encoding, *body, one.route, one.fingerprint


def message(chance: random.Random, number: int) -> list[Outgoing]:
    """All bytes of it but a few tell which one it is."""
    size = LARGE if chance.random() < 0.01 else chance.choice(SIZES)
    recipients = chance.choice((1, 1, 1, 2, 5))
    text = b"~%05d" % number * (size // 6 + 1)
    tail = Tail.of(b'"' + text + b'"}')
    return [
        Outgoing(
            f"M{number:05}R{n}",
            chance.choice((None, 0, 1, 255)),
            chance.choice(("", "base64")),
            b'{"message-id":"~%05d%d","text":' % (number, n),
            tail,
            chance.choice(ROUTES),
            0,
            chance.choice(("", "0123456789abcdef")),
        )
        for n in range(recipients)
    ]


class Queue:
    """A store at work, and what it must hold."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        folder.mkdir()
        self.path = str(folder / "queue.db")
        self.chance = chance
        self.store = Store(self.path, create=True)
        # As SQLite is built by most: what was deleted is left in free pages.
        self.store._db.execute("PRAGMA secure_delete = OFF")
        self.rows: dict[str, Fields] = {}
        self.deleted: dict[str, Fields] = {}
        self.number = 0

    def work(self, steps: int) -> None:
        for _ in range(steps):
            match self.chance.choice(("add", "add", "add", "delete", "checkpoint")):
                case "add":
                    batch = []
                    for _ in range(self.chance.choice((1, 3, 20))):
                        batch += message(self.chance, self.number)
                        self.number += 1
                    self.store.add(batch)
                    self.rows |= {one.id: fields(one) for one in batch}
                case "delete":
                    ids = sorted(self.rows)[: len(self.rows) // 2]  # as a drain does
                    if self.chance.random() < 0.5:
                        ids = self.chance.sample(sorted(self.rows), len(self.rows) // 4)
                    self.store.delete(ids)
                    self.deleted |= {id: self.rows.pop(id) for id in ids}
                case "checkpoint" if self.chance.random() < 0.3:
                    self.store.checkpoint()

    def copy(self, folder: Path) -> str:
        """The files as a crash would leave them."""
        folder.mkdir()
        for end in ("", "-wal"):
            shutil.copy(self.path + end, folder / f"queue.db{end}")
        return str(folder / "queue.db")


class Slots:
    """The newest version of each page, by its place in the two files."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.database, self.wal = (bytearray(Path(path + end).read_bytes()) for end in ("", "-wal"))
        self.newest = {
            n + 1: (self.database, n * PAGE_SIZE) for n in range(len(self.database) // PAGE_SIZE)
        }
        for offset in range(32, len(self.wal) - FRAME + 1, FRAME):
            if self.wal[offset + 8 : offset + 16] == self.wal[16:24]:
                page = int.from_bytes(self.wal[offset : offset + 4], "big")
                self.newest[page] = (self.wal, offset + 24)
        self.whole = dict(self.newest)
        self.of_message = defaultdict(set)
        for page, (octets, at) in self.newest.items():
            for found in re.findall(rb"~(\d{5})|M(\d{5})R\d", octets[at : at + PAGE_SIZE]):
                self.of_message[int(found[0] or found[1])].add(page)

    def damage(self, chance: random.Random, pages: list[int]) -> None:
        for page in pages:
            octets, at = self.newest[page]
            first = at - 24 if octets is self.wal and chance.random() < 0.5 else at
            size = at + PAGE_SIZE - first
            octets[first : first + size] = chance.choice(KINDS)(size)
            self.whole.pop(page, None)

    def write(self) -> None:
        Path(self.path).write_bytes(self.database)
        Path(self.path + "-wal").write_bytes(self.wal)


def found(path: str) -> tuple[dict[str, Fields], int]:
    rows = UndamagedRows(path)
    try:
        every: list[Row] = list(rows)
        assert [row.seq for row in every] == sorted(row.seq for row in every)
        assert len({row.message.id for row in every}) == len(every)
        return {row.message.id: fields(row.message) for row in every}, rows.missing
    finally:
        rows.close()


@pytest.mark.parametrize("seed", range(3))
def test_what_lies_on_undamaged_pages_comes_back(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    queue = Queue(tmp_path / "queue", chance)
    for step in range(2):
        queue.work(10)
        whole = queue.copy(tmp_path / f"whole{step}")
        assert found(whole) == (queue.rows, 0)
        ever = queue.rows | queue.deleted
        for copy in range(8):
            path = queue.copy(tmp_path / f"copy{step}-{copy}")
            slots = Slots(path)
            pages = sorted(slots.newest)
            number = chance.choice((1, 1, 5, len(pages) // 4, len(pages) // 2))
            slots.damage(chance, chance.sample(pages, number))
            if copy % 4 == 3:
                slots.damage(chance, [1, 2])
            if copy % 4 == 2:
                slots.wal[:32] = chance.choice(KINDS)(32)
            slots.write()
            back, missing = found(path)
            assert back == {id: ever[id] for id in back}
            due = {id for id in queue.rows if slots.of_message[int(id[1:6])] <= slots.whole.keys()}
            assert due - back.keys() == set(), (seed, step, copy)
            assert missing <= len(ever)
    queue.store.close()


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    queue = Queue(tmp_path / "queue", random.Random(1))
    queue.work(10)
    return queue


def test_a_log_that_is_gone_or_zero_leaves_what_is_in_the_file(
    queue: Queue, tmp_path: Path
) -> None:
    queue.store.checkpoint()
    before = dict(queue.rows)
    queue.store.add(message(queue.chance, 99_999))
    for folder, log in (("gone", None), ("empty", b""), ("zero", bytes(8 * FRAME))):
        path = queue.copy(tmp_path / folder)
        os.unlink(path + "-wal")
        if log is not None:
            Path(path + "-wal").write_bytes(log)
        assert found(path) == (before, 0)


def test_what_the_log_has_lost_is_taken_from_the_file(tmp_path: Path) -> None:
    """The log still has what was brought into the file: here an older version of a page."""
    queue = Queue(tmp_path / "queue", random.Random(1))
    for number in range(3):
        new = message(queue.chance, number)[:1]
        queue.store.add(new)
        queue.rows |= {one.id: fields(one) for one in new}
    queue.store._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    path = queue.copy(tmp_path / "copy")
    overwrite(path + "-wal", os.path.getsize(path + "-wal") - 4 * FRAME, bytes(4 * FRAME))
    assert found(path)[0] == queue.rows


def test_a_log_alone_gives_what_is_in_it(queue: Queue, tmp_path: Path) -> None:
    queue.store.checkpoint()
    new = message(queue.chance, 99_999)
    queue.store.add(new)
    path = queue.copy(tmp_path / "copy")
    os.unlink(path)
    back, _ = found(path)
    assert {one.id: fields(one) for one in new}.items() <= back.items()


@pytest.mark.parametrize("pages", [0, 1, 3, 20])
def test_a_file_that_was_cut_gives_the_rest(queue: Queue, tmp_path: Path, pages: int) -> None:
    queue.store.checkpoint()
    path = queue.copy(tmp_path / "copy")
    slots = Slots(path)
    os.truncate(path, pages * PAGE_SIZE + 100)
    back, missing = found(path)
    due = {id for id in queue.rows if max(slots.of_message[int(id[1:6])]) <= pages}
    assert due <= back.keys()
    assert back.items() <= queue.rows.items()
    if pages > 3:  # the root of the index of ids is there
        assert missing


def test_what_is_lost_is_counted_where_the_index_of_the_ids_is_whole(
    queue: Queue, tmp_path: Path
) -> None:
    queue.store.checkpoint()
    path = queue.copy(tmp_path / "copy")
    slots = Slots(path)
    lost = queue.chance.sample(sorted(queue.rows), 3)
    pages = set().union(*(slots.of_message[int(id[1:6])] for id in lost))
    slots.damage(queue.chance, [page for page in pages if b"M" not in index_of(slots, page)])
    slots.write()
    back, missing = found(path)
    assert missing == len(queue.rows) - len(back) >= 3


def index_of(slots: Slots, page: int) -> bytes:
    """The page's bytes where it is of an index."""
    octets, at = slots.newest[page]
    return bytes(octets[at : at + PAGE_SIZE]) if octets[at] in (2, 10) else b""


def test_rows_of_an_older_file_come_back_as_far_as_they_are_json(tmp_path: Path) -> None:
    path = str(tmp_path / "queue.db")
    packed = Path(test_store_schema.__file__).parent / "schema-1.db.gz"
    Path(path).write_bytes(gzip.decompress(packed.read_bytes()))
    whole, missing = found(path)
    assert (len(whole), missing) == (7, 0)
    octets = bytearray(Path(path).read_bytes())
    at = octets.index(whole["01K73SCHEMA1000000000000000001"][4])  # type: ignore[arg-type]
    octets[at : at + 20] = bytes(20)
    octets[:PAGE_SIZE] = bytes(PAGE_SIZE)
    Path(path).write_bytes(octets)
    back, missing = found(path)
    assert back == {id: row for id, row in whole.items() if not id.endswith("1")}
    assert missing == 1
    again = tmp_path / "again" / "queue.db"
    store = Store(str(again), create=True)
    for row in UndamagedRows(path):
        store.add([row.message])
    assert [entry.stored for entry in store.entries()] == [
        1760000001,
        *[1760000002] * 3,
        *[1760000003] * 2,
    ]
    store.close()


@pytest.mark.parametrize("seed", range(6))
def test_garbage_holds_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = str(tmp_path / "queue.db")
    for end in ("", "-wal"):
        octets = bytearray(chance.randbytes(20 * FRAME))
        for page in range(20):  # each looks like a page of a tree
            octets[page * PAGE_SIZE] = chance.choice((2, 5, 10, 13))
        Path(path + end).write_bytes(octets)
    assert found(path)[0] == {}


def test_another_programs_file_holds_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "other.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE messages (id TEXT UNIQUE, body BLOB)")
        db.executemany("INSERT INTO messages VALUES (?,?)", [(str(n), b"x") for n in range(99)])
        db.commit()
    assert found(path)[0] == {}
