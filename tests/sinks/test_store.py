"""The file of the embedded queue, by what is in it and beside it."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fastsmtp.payload import Outgoing
from fastsmtp.sinks.store import Store
from fastsmtp.sinks.store_errors import StoreError, StoreFullError
from fastsmtp.sinks.store_file import MIN_SIZE
from tests.support.daemon import ROOT


def row(id: str, tail: bytes | bytearray = b"tail", priority: int | None = None) -> Outgoing:
    return Outgoing(id, priority, "base64" if priority else "", b"prefix-", tail)


def rows(first: int, number: int, tail: bytes = b"tail") -> list[Outgoing]:
    """Messages with a recipient each: no two have the same tail object."""
    return [row(f"ID{n:08}", bytes(memoryview(tail))) for n in range(first, first + number)]


def fields(message: Outgoing | None) -> tuple[object, ...]:
    assert message is not None
    return message.id, message.priority, message.encoding, message.prefix, bytes(message.tail)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "fastsmtp" / "queue.db")


def fill(store: Store, tail: bytes) -> int:
    """Add rows until not one more fits; how many did."""
    number, batch = 0, 64
    while batch:
        try:
            store.add(rows(number, batch, tail))
            number += batch
        except StoreFullError:
            batch //= 2
    return number


def used(path: str) -> int:
    return os.stat(path).st_size + os.stat(path + "-wal").st_size


@pytest.mark.parametrize("size", [0, 1, 2500, 100_000, (1 << 20) - 1, 1 << 20, 5 << 20])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_what_was_added_is_given_back(
    path: str, size: int, kind: type[bytes] | type[bytearray]
) -> None:
    tail = kind(os.urandom(size))
    store = Store(path, 1 << 30, create=True)
    store.add([row("A"), row("B", tail, 7), row("C")])
    store.close()
    again = Store(path)
    assert fields(again.get("B")) == ("B", 7, "base64", b"prefix-", bytes(tail))
    assert fields(again.get("A")) == fields(row("A"))
    assert again.get("D") is None
    assert [entry.size for entry in again.entries()] == [11, 7 + size, 11]
    again.close()


def test_rows_come_back_in_order_page_by_page(path: str) -> None:
    store = Store(path, create=True)
    store.add(rows(0, 150))
    store.add(rows(500, 10))
    store.add(rows(200, 7))
    found, after = [], 0
    while page := store.entries(after, 60):
        found += page
        after = page[-1].seq
    assert [entry.id for entry in found] == [
        one.id for one in [*rows(0, 150), *rows(500, 10), *rows(200, 7)]
    ]
    assert store.count() == 167
    assert found[0].head == b"prefix-tail"
    store.close()


def test_messages_are_read_in_order_within_bounds(path: str) -> None:
    store = Store(path, create=True)
    added = [row(f"ID{n:02}", b"x" * size) for n, size in enumerate([5, 3000, 10, 20, 5, 0])]
    store.add(added)

    def read(after: int, limit: int, octets: int) -> list[str]:
        found = store.after(after, limit, octets)
        assert [fields(one) for _, one in found] == [fields(store.get(one.id)) for _, one in found]
        return [one.id for _, one in found]

    assert read(0, 100, 1 << 20) == [one.id for one in added]
    assert read(0, 2, 1 << 20) == ["ID00", "ID01"]
    assert read(2, 100, 17 + 27) == ["ID02", "ID03"]  # each is 7 octets more than its tail
    assert read(2, 100, 17 + 26) == ["ID02"]
    assert read(1, 100, 10) == ["ID01"]  # one, however large it is
    store.delete(["ID02", "ID05"])
    assert read(2, 100, 1 << 20) == ["ID03", "ID04"]
    assert read(5, 100, 1 << 20) == []
    store.close()


def test_ids_are_found_by_their_beginning(path: str) -> None:
    store = Store(path, create=True)
    store.add([row("AB1"), row("AB"), row("AC"), row("B")])
    assert store.matching("AB") == ["AB", "AB1"]
    assert store.matching("AC") == ["AC"]
    assert store.matching("X") == []
    store.close()


def test_a_batch_is_stored_whole_or_not_at_all(path: str) -> None:
    store = Store(path, create=True)
    store.add([row("A")])
    with pytest.raises(StoreError):
        store.add([*rows(0, 100), row("L", bytes(2 << 20)), row("A")])
    assert [entry.id for entry in store.entries()] == ["A"]
    store.add([row("B")])
    assert store.count() == 2
    store.close()


def test_a_place_in_the_order_is_never_used_twice(path: str) -> None:
    store = Store(path, create=True)
    store.add([row("A"), row("B")])
    last = store.entries()[-1].seq
    assert store.delete(["B", "nobody"]) == 1
    store.add([row("C")])
    assert store.entries(after=last)[0].id == "C"
    store.purge()
    store.add([row("D")])
    assert store.entries()[0].seq > last + 1
    store.close()


def test_only_the_owner_can_read_what_we_create(path: str) -> None:
    before = os.umask(0)
    try:
        store = Store(path, create=True)
        store.add([row("A")])
        folder = Path(path).parent
        assert sorted(file.name for file in folder.iterdir()) == [
            "queue.db",
            "queue.db-lock",
            "queue.db-shm",
            "queue.db-wal",
        ]
        for file in folder.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        for each in (folder, folder.parent):
            assert stat.S_IMODE(each.stat().st_mode) == 0o700
        store.close()
    finally:
        os.umask(before)
    assert sorted(os.listdir(folder)) == ["queue.db", "queue.db-lock"]


def test_a_missing_file_is_only_made_on_demand(path: str) -> None:
    with pytest.raises(FileNotFoundError):
        Store(path)
    assert not os.path.exists(os.path.dirname(path))


def test_a_newer_file_is_left_alone(path: str) -> None:
    Store(path, create=True).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 4")
    db.close()
    before = Path(path).read_bytes()
    with pytest.raises(StoreError, match=r"written by a newer fastsmtp \(schema 4, .*knows 3\)"):
        Store(path, create=True)
    assert Path(path).read_bytes() == before


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE messages (id)")
    db.close()
    path.chmod(0o600)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"other\.db: this SQLite file is no queue of fastsmtp"):
        Store(str(path), create=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"hello", b"hello" * 5000])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.db"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StoreError, match=r"text\.db: this file is no SQLite database"):
        Store(str(path), create=True)
    assert path.read_bytes() == content


def test_a_damaged_file_says_so(path: str) -> None:
    store = Store(path, create=True)
    store.add(rows(0, 300, bytes(2000)))
    store.close()
    with open(path, "r+b") as file:
        file.seek(8192)
        file.write(os.urandom(os.stat(path).st_size - 8192))

    def use() -> None:
        store = Store(path)
        try:
            store.entries()
        finally:
            store.close()

    with pytest.raises(StoreError, match=r"queue\.db: the file is damaged"):
        use()


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Store(str(tmp_path / "file" / "queue.db"), create=True)
    with pytest.raises(OSError, match="is a directory"):
        Store(str(tmp_path), create=True)


def test_a_limit_that_holds_nothing_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=str(MIN_SIZE)):
        Store(path, MIN_SIZE - 1, create=True)


@pytest.mark.parametrize("maxsize", [MIN_SIZE, 12 << 20])
@pytest.mark.parametrize("octets", [3000, 70_000])
def test_file_and_wal_stay_within_the_limit(path: str, maxsize: int, octets: int) -> None:
    store = Store(path, maxsize, create=True)
    number = fill(store, bytes(octets))
    assert number * octets > maxsize // 3
    assert used(path) <= maxsize
    assert store.count() == number
    store.checkpoint()
    assert used(path) <= maxsize
    assert store.room() < max(250_000, 3 * octets)
    assert store.purge() == number
    assert used(path) < 100_000
    assert fill(store, bytes(octets)) > number * 0.98
    store.close()


@pytest.mark.parametrize("maxsize", [MIN_SIZE, 30 << 20])
def test_the_largest_body_fits_an_empty_file(path: str, maxsize: int) -> None:
    store = Store(path, maxsize, create=True)
    store.add([row("A", bytes(store.max_body - len(b"prefix-")))])
    store.checkpoint()
    assert used(path) <= maxsize
    store.close()


def test_room_of_deleted_rows_is_used_again(path: str) -> None:
    store = Store(path, MIN_SIZE, create=True)
    number = fill(store, bytes(5000))
    store.delete(one.id for one in rows(0, number // 2))
    for first in range(number, number + number // 3, 5):
        store.add(rows(first, 5, bytes(5000)))
        assert used(path) <= MIN_SIZE
    store.close()


@pytest.mark.parametrize("file", ["", "-wal"])
def test_a_file_that_somebody_removed_takes_no_more(path: str, file: str) -> None:
    store = Store(path, create=True)
    store.add([row("A")])
    os.unlink(path + file)
    with pytest.raises(StoreError, match="was removed or replaced while it was in use"):
        store.add([row("B")])
    store.close()


def add_many(path: str, first: str) -> None:
    store = Store(path, 1 << 30, create=True)
    for n in range(int(first), int(first) + 200, 10):
        store.add(rows(n, 10, bytes(2000)))
    store.close()


def test_processes_that_start_at_once_share_a_file(path: str) -> None:
    script = "import sys; from tests.sinks.test_store import add_many; add_many(*sys.argv[1:])"
    workers = [
        subprocess.Popen([sys.executable, "-c", script, path, str(n * 1000)], cwd=ROOT)
        for n in range(4)
    ]
    for worker in workers:
        assert worker.wait(60) == 0
    store = Store(path)
    assert store.count() == 800
    store.close()


def test_a_file_that_another_process_is_making_is_waited_for(path: str) -> None:
    """Its mode is changed to the WAL while the other writes: SQLite itself does not wait there."""
    Store(path, create=True).close()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode = DELETE")
    other.execute("BEGIN IMMEDIATE")
    end = threading.Timer(0.3, other.execute, ("COMMIT",))
    end.start()
    store = Store(path)
    store.add([row("A")])
    assert store.count() == 1
    store.close()
    end.join()
    other.close()


def test_purge_leaves_what_comes_in_meanwhile(path: str) -> None:
    writer = Store(path, 1 << 30, create=True)
    writer.add(rows(0, 3000, bytes(2000)))
    purger = Store(path)
    deleted: list[int] = []
    thread = threading.Thread(target=lambda: deleted.append(purger.purge()))
    thread.start()
    added = 0
    while thread.is_alive() or not added:
        writer.add([row(f"NEW{added:08}")])
        added += 1
    thread.join()
    kept = [entry.id for entry in writer.entries(limit=1_000_000)]
    assert deleted[0] + len(kept) == 3000 + added
    assert kept == [f"NEW{n:08}" for n in range(added - len(kept), added)]
    assert deleted[0] - 3000 <= 1 or added - len(kept) == deleted[0] - 3000
    purger.close()
    writer.close()


def test_a_disk_that_mail_has_filled_can_still_be_purged(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can mount a small disk")
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mount.stderr.strip()}")
    try:
        store = Store(str(tmp_path / "queue.db"), create=True)
        number = fill(store, bytes(2000))
        assert number > 500
        assert store.count() == number
        assert store.room() < 1 << 20
        assert store.purge() == number
        assert store.room() > 6 << 20
        assert fill(store, bytes(2000)) > number * 0.95
        store.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)
