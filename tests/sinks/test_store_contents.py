"""What recipients share is in the file once, for as long as one of them is there; and routes.

The random test compares the store with a slow and obvious model of it: a list of its rows.
"""

import itertools
import os
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastsmtp._tail import Tail
from fastsmtp.payload import Outgoing
from fastsmtp.route import Route
from fastsmtp.sinks.inserts import ROWS_PER_INSERT
from fastsmtp.sinks.store import LARGE, Store
from fastsmtp.sinks.store_errors import StoreError, StoreFullError
from fastsmtp.sinks.store_file import MIN_SIZE


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "queue.db")


def message(id: str, recipients: int, tail: bytes | bytearray) -> list[Outgoing]:
    """One with an `Outgoing` for each recipient; its own tail object, which they share."""
    own = Tail.of(tail)
    return [Outgoing(f"{id}{n:04}", None, "", b"{%d" % n, own) for n in range(recipients)]


def read_all(store: Store, limit: int = 1 << 30) -> list[Outgoing]:
    return [one for _, one in store.after(0, 1 << 30, limit)]


def check_contents(path: str) -> int:
    """Fail where a content is missing, or named by nobody; how many there are."""
    with closing(sqlite3.connect(path)) as db:
        named = db.execute(
            "SELECT DISTINCT content FROM messages WHERE content NOT NULL ORDER BY content"
        ).fetchall()
        assert named == db.execute("SELECT id FROM contents ORDER BY id").fetchall()
    return len(named)


def test_a_thousand_recipients_take_the_room_of_one(path: str) -> None:
    store = Store(path, 100 << 20, create=True)
    tail = os.urandom(5 << 20)
    store.add(message("A", 1000, tail))
    store.checkpoint()
    assert store.octets() < 6 << 20
    assert store.room() > 80 << 20
    found = read_all(store, 6 << 20)
    assert [(one.id, one.prefix) for one in found] == [
        (f"A{n:04}", b"{%d" % n) for n in range(1000)
    ]
    assert {id(one.tail) for one in found} == {id(found[0].tail)}
    assert bytes(found[0].tail) == tail
    alone = store.get("A0500")
    assert alone is not None
    assert bytes(alone.tail) == tail
    entries = store.entries(limit=1000)
    assert {entry.size for entry in entries} == {one.size for one in found}
    assert entries[7].head == b"{7" + tail[: len(entries[7].head) - 2]
    store.close()


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("size", [0, 1, 3000, LARGE - 1, LARGE, LARGE + 1])
@pytest.mark.parametrize("recipients", [1, 2, ROWS_PER_INSERT, ROWS_PER_INSERT + 1])
def test_what_was_added_is_given_back(
    path: str, kind: type[bytes] | type[bytearray], size: int, recipients: int
) -> None:
    store = Store(path, create=True)
    batch = [
        *message("A", 1, b"single"),
        *message("B", recipients, kind(os.urandom(size))),
        *message("C", 3, b"of C"),
        *message("D", 1, b"of D"),
    ]
    store.add(batch)
    store.close()
    again = Store(path)
    for one, found in zip(batch, read_all(again), strict=True):
        assert fields(found) == fields(one)
    assert check_contents(path) == 1 + (recipients > 1 or size >= LARGE)
    again.close()


@pytest.mark.parametrize("order", [1, -1])
def test_a_content_goes_with_the_last_one_that_names_it(path: str, order: int) -> None:
    store = Store(path, create=True)
    tail = os.urandom(3000)
    batch = [*message("A", 3, tail), *message("B", 3, tail), *message("C", 1, tail)]
    store.add(batch)
    left = batch[::order]
    while left:
        assert check_contents(path) == len({one.id[0] for one in left} - {"C"})
        assert {one.id for one in read_all(store)} == {one.id for one in left}
        assert {bytes(one.tail) for one in read_all(store)} == {tail}
        assert store.delete([left.pop(0).id]) == 1
    assert check_contents(path) == 0
    store.close()


def test_recipients_read_in_two_parts_have_the_whole_content(path: str) -> None:
    store = Store(path, create=True)
    store.add(message("A", 10, b"x" * 3000))
    assert len(store.after(0, 4, 1 << 20)) == 4
    assert [bytes(one.tail) for _, one in store.after(4, 10, 1 << 20)] == [b"x" * 3000] * 6
    assert len(store.after(0, 10, 3000 + 4 * 2)) == 4  # prefixes of two bytes
    assert len(store.after(0, 10, 0)) == 1
    store.close()


def test_routes_come_back_and_no_route_is_none(path: str) -> None:
    store = Store(path, create=True)
    routes = [None, Route.of("", "inbox"), Route.of("mail", ""), Route.of("mäil", "a.b"), None]
    shared = Tail.of(b"shared")
    store.add([Outgoing(f"A{n}", None, "", b"{", shared, route) for n, route in enumerate(routes)])
    store.add(
        [Outgoing(f"B{n}", None, "", b"{", b"own %d" % n, route) for n, route in enumerate(routes)]
    )
    store.close()
    again = Store(path)
    assert [one.route for one in read_all(again)] == routes * 2
    found = again.get("B1")
    assert found is not None
    assert found.route is routes[1]
    again.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute(
            "SELECT exchange, routing_key, headers FROM messages WHERE id LIKE 'B%'"
        ).fetchall() == [
            (route and route.exchange, route and route.routing_key, None) for route in routes
        ]


def test_a_fingerprint_is_kept_as_an_amqp_header(path: str) -> None:
    store = Store(path, create=True)
    store.add([Outgoing("A", None, "", b"{", b"}", fingerprint="0f" * 32), *message("B", 1, b"}")])
    store.close()
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT headers FROM messages ORDER BY seq").fetchall()
        assert found == [('{"fingerprint":"%s"}' % ("0f" * 32),), (None,)]
        db.execute(
            """UPDATE messages SET headers = '{"x":1}', checksum = NULL WHERE id = 'B0000'"""
        )  # another's
        db.commit()
    again = Store(path)
    assert [one.fingerprint for one in read_all(again)] == ["0f" * 32, ""]
    again.close()


@pytest.mark.parametrize("headers", ["", "{", "[]"])
def test_headers_that_cannot_be_read_are_told_by_file_and_message(path: str, headers: str) -> None:
    store = Store(path, create=True)
    store.add(message("A", 1, b"own"))
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE messages SET checksum = NULL, headers = ?", (headers,))
        db.commit()
    with pytest.raises(StoreError, match=rf"{path}: message A0000 has unreadable .*damaged"):
        store.get("A0000")
    store.close()


def test_a_batch_that_fails_leaves_no_content(path: str) -> None:
    store = Store(path, MIN_SIZE * 8, create=True)
    store.add(message("A", 1, b"own"))
    with pytest.raises(StoreError):
        store.add([*message("B", 70, bytes(3000)), *message("A", 1, b"own")])
    with pytest.raises(StoreFullError):
        store.add([*message("B", 2, bytes(2000)), *message("C", 2, bytes(20 << 20))])
    assert check_contents(path) == 0
    store.add(message("D", 2, b"both"))
    assert [one.id for one in read_all(store)] == ["A0000", "D0000", "D0001"]
    store.close()


def test_a_lost_content_is_told_by_file_and_message(path: str) -> None:
    store = Store(path, create=True)
    store.add([*message("A", 2, b"gone"), *message("B", 1, b"own")])
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM contents")
        db.commit()
    with pytest.raises(StoreError, match=rf"{path}: message A0000 .*damaged"):
        store.get("A0000")
    with pytest.raises(StoreError, match=rf"{path}: message A0000 .*damaged"):
        store.after(0, 10, 1 << 20)
    found = store.get("B0000")
    assert found is not None
    store.close()


@dataclass
class Kept:
    """A row of the model."""

    seq: int
    id: str
    message: int  # which one it is a recipient of
    fields: tuple[object, ...]  # all that comes back
    prefix: int  # bytes
    tail: int  # bytes


class Model:
    """What a store is, slowly."""

    def __init__(self) -> None:
        self.rows: list[Kept] = []
        self.last = 0
        self.messages = 0

    def add(self, batch: list[list[Outgoing]]) -> None:
        for recipients in batch:
            self.messages += 1
            for one in recipients:
                self.last += 1
                sizes = len(one.prefix), one.tail.size
                self.rows.append(Kept(self.last, one.id, self.messages, fields(one), *sizes))

    def delete(self, ids: set[str]) -> int:
        before = len(self.rows)
        self.rows = [row for row in self.rows if row.id not in ids]
        return before - len(self.rows)

    def after(self, seq: int, limit: int, octets: int) -> list[Kept]:
        found: list[Kept] = []
        for row in [row for row in self.rows if row.seq > seq][:limit]:
            tails = {one.message: one.tail for one in [*found, row]}
            if found and sum(tails.values()) + sum(o.prefix for o in [*found, row]) > octets:
                break
            found.append(row)
        return found


def fields(one: Outgoing) -> tuple[object, ...]:
    more = one.route, one.fingerprint
    return one.id, one.priority, one.encoding, one.prefix, bytes(one.tail), *more


ROUTES = [None, None, Route.of("", "inbox"), Route.of("mail", "a.b")]


def random_message(chance: random.Random, number: int) -> list[Outgoing]:
    size = chance.choice((0, 1, 100, 2500, 2500, 9000, 100_000))
    if chance.random() < 0.01:
        size = LARGE + chance.randrange(2)
    tail = Tail.of(chance.choice((bytes, bytearray))(chance.randbytes(size)))
    return [
        Outgoing(
            f"M{number:06}R{n}",
            chance.choice((None, 0, 255)),
            chance.choice(("", "base64")),
            b"p" * chance.randrange(300),
            tail,
            chance.choice(ROUTES),
            fingerprint=chance.choice(("", "", f"{number:064x}")),
        )
        for n in range(chance.choice((1, 1, 1, 2, 3, 5, 70)))
    ]


@pytest.mark.parametrize("seed", range(12))
def test_it_does_what_the_model_does(path: str, seed: int) -> None:
    """Random batches, deletes, purges and reads, with the file closed and opened in between."""
    chance = random.Random(seed)
    model, store = Model(), Store(path, 1 << 30, create=True)
    numbers = itertools.count()

    def batch() -> list[list[Outgoing]]:
        messages = chance.choice((1, 1, 2, 5, 40))
        return [random_message(chance, next(numbers)) for _ in range(messages)]

    for _ in range(60):
        match chance.choice(("add", "add", "add", "twice", "delete", "delete", "read", "rest")):
            case "add":
                new = batch()
                store.add([one for recipients in new for one in recipients])
                model.add(new)
            case "twice" if model.rows:
                again = Outgoing(chance.choice(model.rows).id, None, "", b"", b"")
                with pytest.raises(StoreError):
                    store.add([*(one for recipients in batch() for one in recipients), again])
            case "delete" if model.rows:
                some = chance.sample(model.rows, chance.randrange(1, len(model.rows) + 1))
                ids = {row.id for row in some[: chance.choice((1, 3, 1000))]} | {"nobody"}
                assert store.delete(ids) == model.delete(ids)
            case "read":
                seq = chance.randrange(model.last + 1)
                limit, octets = chance.choice((1, 10, 1000)), chance.choice((0, 5000, 300_000))
                read = store.after(seq, limit, octets)
                expected = model.after(seq, limit, octets)
                assert [(at, fields(one)) for at, one in read] == [
                    (row.seq, row.fields) for row in expected
                ]
                tails = {
                    (row.message, id(one.tail))
                    for row, (_, one) in zip(expected, read, strict=True)
                }
                assert len(tails) == len({row.message for row in expected})
            case "rest":
                if chance.random() < 0.2:
                    assert store.purge() == model.delete({row.id for row in model.rows})
                store.close()
                store = Store(path, 1 << 30)
        check_contents(path)
        assert store.count() == len(model.rows)
    entries = store.entries(limit=1 << 30)
    assert [(one.seq, one.id, one.size) for one in entries] == [
        (row.seq, row.id, row.prefix + row.tail) for row in model.rows
    ]
    for row in model.rows[:50]:
        found = store.get(row.id)
        assert found is not None
        assert fields(found) == row.fields
    assert store.purge() == len(model.rows)
    assert check_contents(path) == 0
    store.close()
