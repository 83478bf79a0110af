"""A row's checksum: what it is made of, and that a row which was changed is never given."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from zlib import crc32

import pytest

from fastsmtp._tail import Tail
from fastsmtp.payload import Outgoing
from fastsmtp.route import Route
from fastsmtp.sinks import row_checksum
from fastsmtp.sinks.store import LARGE, Store
from fastsmtp.sinks.store_errors import StoreDamagedError


def test_it_is_what_rows_in_files_have() -> None:
    """Numbers of the first version that wrote them."""
    tail = row_checksum.of_tail(Tail.of(b'"}'))
    assert tail == crc32(b'"}')
    assert row_checksum.of_row("01K7", None, "", b'{"a":"', tail) == 3963839758
    assert row_checksum.of_row("01K7", 3, "base64", b"{", tail, "", "inbox") == 1009945208
    assert row_checksum.of_row("01K7", 3, "", b"{", tail, None, None, '{"a":1}') == 2368599068


def test_a_tail_in_slices_has_the_checksum_of_the_whole() -> None:
    text = bytes(range(256)) * 5000
    assert row_checksum.of_tail(Tail.of(text)) == crc32(text)


def test_every_part_of_a_row_counts() -> None:
    rows = [
        ("A", None, "", b"{", 1, None, None, None),
        ("B", None, "", b"{", 1, None, None, None),
        ("A", 0, "", b"{", 1, None, None, None),
        ("A", None, "base64", b"{", 1, None, None, None),
        ("A", None, "", b"[", 1, None, None, None),
        ("A", None, "", b"{", 2, None, None, None),
        ("A", None, "", b"{", 1, "", "", None),
        ("A", None, "", b"{", 1, "x", "", None),
        ("A", None, "", b"{", 1, "", "x", None),
        ("A", None, "", b"{", 1, None, None, ""),
        ("A", None, "", b"{", 1, None, None, "{}"),
    ]
    assert len({row_checksum.of_row(*row) for row in rows}) == len(rows)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "queue.db")
    store = Store(path, create=True)
    store.add([Outgoing("PLAIN", None, "", b"{", b"tail")])
    shared = Tail.of(b"shared")
    store.add([Outgoing(f"SHARED{n}", 1, "", b"{", shared, Route.of("", "x")) for n in range(2)])
    store.add([Outgoing("LARGE", None, "", b"{", bytes(LARGE))])
    store.add([Outgoing("ROUTE", None, "", b"{", b"tail", Route.of("", "x"))])
    store.close()
    return path


@pytest.mark.parametrize(
    ("id", "change"),
    [
        ("PLAIN", "UPDATE messages SET tail = CAST('tall' AS BLOB) WHERE id = ?"),
        ("PLAIN", "UPDATE messages SET tail = zeroblob(4) WHERE id = ?"),
        ("PLAIN", "UPDATE messages SET tail = 0 WHERE id = ?"),
        ("PLAIN", "UPDATE messages SET prefix = zeroblob(1) WHERE id = ?"),
        ("PLAIN", "UPDATE messages SET encoding = 'base64' WHERE id = ?"),
        ("PLAIN", "UPDATE messages SET encoding = CAST(X'FF' AS TEXT) WHERE id = ?"),
        ("PLAIN", "UPDATE messages SET exchange = 'a', routing_key = 'b' WHERE id = ?"),
        ("PLAIN", "UPDATE messages SET headers = '{}' WHERE id = ?"),
        ("SHARED1", "UPDATE messages SET priority = 2 WHERE id = ?"),
        ("ROUTE", "UPDATE messages SET routing_key = 'y' WHERE id = ?"),
        (
            "SHARED0",
            "UPDATE contents SET tail = zeroblob(6) "
            "WHERE id = (SELECT content FROM messages WHERE id = ?)",
        ),
        (
            "LARGE",
            "UPDATE contents SET tail = zeroblob(1048577) "
            "WHERE id = (SELECT content FROM messages WHERE id = ?)",
        ),
    ],
)
def test_a_row_that_was_changed_is_damage_wherever_it_is_read(
    path: str, id: str, change: str
) -> None:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute(change, (id,)).rowcount == 1
        db.commit()
    store = Store(path)
    with pytest.raises(StoreDamagedError, match="the file is damaged"):
        store.get(id)
    with pytest.raises(StoreDamagedError, match="the file is damaged"):
        store.after(0, 100, 1 << 30)
    store.close()


def test_rows_of_older_files_have_none(path: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE messages SET checksum = NULL")
        db.commit()
    store = Store(path)
    assert len(store.after(0, 100, 1 << 30)) == 5
    store.close()


def test_an_error_of_ours_is_no_damage(path: str) -> None:
    """Or a file that is whole would be set aside."""
    store = Store(path)
    with pytest.raises(TypeError):
        store.add([Outgoing("BAD", None, "", None, b"tail")])  # type: ignore[arg-type]
    store.close()
