"""A damaged file is set aside under mail that goes on, and what is whole in it comes back."""

import asyncio
import logging
import os
import re
import smtplib
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from glob import glob
from pathlib import Path

import pytest

from fastsmtp._tail import Tail
from fastsmtp.availability import Availability
from fastsmtp.payload import Outgoing
from fastsmtp.sinks import file_moves
from fastsmtp.sinks.embedded import Embedded
from fastsmtp.sinks.file_lock import NEXT, TURN, FileLock
from fastsmtp.sinks.queue_counters import QueueCounters
from fastsmtp.sinks.store import Store
from fastsmtp.sinks.store_errors import StoreError
from tests.sinks.test_embedded import put, until, with_sink
from tests.support.daemon import Daemon
from tests.support.damage import PAGE, overwrite, pages_of, zero_pages


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "queue.db")


def message(id: str) -> list[Outgoing]:
    return [Outgoing(id, None, "", b'{"m":"%s' % id.encode(), Tail.of(b"~%s" % id.encode() * 250))]


def messages(beginning: str, number: int) -> list[list[Outgoing]]:
    return [message(f"{beginning}{n:04}") for n in range(number)]


def stored(path: str) -> dict[str, bytes]:
    with closing(Store(path)) as store:
        return {one.id: bytes(one) for _, one in store.after(0, 100_000, 1 << 30)}


def bodies(*groups: list[list[Outgoing]]) -> dict[str, bytes]:
    return {one[0].id: bytes(one[0]) for group in groups for one in group}


def aside(path: str) -> list[str]:
    return sorted(name for name in glob(f"{path}.damaged-*") if not re.search("-(wal|shm)$", name))


def recovered(path: str, number: int = 1) -> bool:
    names = aside(path)
    return len(names) == number and all(name.endswith(".recovered") for name in names)


Damage = Callable[[str], None]

DAMAGES = [
    pytest.param(lambda path: overwrite(path, 0, bytes(PAGE)), 0, id="first page"),
    pytest.param(lambda path: overwrite(path, 100, bytes(PAGE - 100)), 0, id="tables"),
    pytest.param(lambda path: zero_pages(path, 3), 0, id="table's root"),
    pytest.param(lambda path: zero_pages(path, *pages_of(path, 5)), 0, id="upper pages"),
    pytest.param(
        lambda path: zero_pages(path, 3, *pages_of(path, 13)[-8:-3]), 25, id="leaves, too"
    ),
    pytest.param(lambda path: os.truncate(path, 20 * PAGE), 150, id="cut"),
]


@pytest.mark.parametrize(("damage", "most"), DAMAGES)
def test_mail_goes_on_and_what_is_whole_comes_back(
    path: str, damage: Damage, most: int, caplog: pytest.LogCaptureFixture
) -> None:
    """`most` is how many messages may be lost: they lay on the pages that were damaged."""
    before = messages("A", 198)  # the last page has room: the next commit writes few pages
    after = messages("B", 20)

    async def use(sink: Embedded, availability: Availability) -> None:
        assert await put(sink, *before) == [None] * len(before)
        with closing(Store(path)) as store:
            store.checkpoint()
        damage(path)
        for one in after:
            assert await put(sink, one) == [None]
        await until(lambda: recovered(path))

    with_sink(path, use)
    found = stored(path)
    assert found.items() <= bodies(before, after).items()
    assert bodies(after).items() <= found.items()
    lost = len(before) + len(after) - len(found)
    assert lost <= most
    assert lost >= most // 2  # or nothing was damaged
    assert caplog.text.count("it is set aside as") == 1
    assert f"{len(before) - lost} messages recovered" in caplog.text
    assert ("lost on damaged pages" in caplog.text) >= (most > 0)


def test_damage_between_two_starts_is_found_at_the_start(path: str) -> None:
    """In pages that no new mail touches."""
    before = messages("A", 200)

    async def fill(sink: Embedded, availability: Availability) -> None:
        assert await put(sink, *before) == [None] * len(before)

    async def wait(sink: Embedded, availability: Availability) -> None:
        await until(lambda: recovered(path))

    with_sink(path, fill)
    zero_pages(path, *pages_of(path, 13)[4:7])
    with_sink(path, wait)
    found = stored(path)
    assert found.items() <= bodies(before).items()
    assert 180 <= len(found) < 190


@pytest.mark.parametrize("damage", [param.values[0] for param in DAMAGES[:5]])
def test_a_file_that_cannot_be_opened_is_set_aside_at_the_start(path: str, damage: Damage) -> None:
    before, after = messages("A", 200), messages("B", 1)
    with closing(Store(path, create=True)) as store:
        store.add([one for rows in before for one in rows])
    damage(path)

    async def use(sink: Embedded, availability: Availability) -> None:
        assert await put(sink, *after) == [None]
        await until(lambda: recovered(path))

    with_sink(path, use)
    found = stored(path)
    assert found.items() <= bodies(before, after).items()
    assert len(found) >= 170


def test_two_workers_that_notice_at_once_set_one_file_aside(path: str) -> None:
    before = messages("A", 200)
    new = [messages(name, 50) for name in ("B", "C")]

    async def use(sink: Embedded, availability: Availability) -> None:
        other = Embedded(path, 1 << 30, Availability(1 << 30), QueueCounters())
        await other.start()
        try:
            assert await put(sink, *before) == [None] * len(before)
            assert await put(other, message("D")) == [None]
            with closing(Store(path)) as store:
                store.checkpoint()
            zero_pages(path, 3)
            for one, two in zip(*new, strict=True):
                assert await asyncio.gather(put(sink, one), put(other, two)) == [[None]] * 2
            await until(lambda: recovered(path))
        finally:
            await other.close()

    with_sink(path, use)
    assert stored(path) == bodies(before, *new, [message("D")])


def test_nobody_writes_into_a_file_that_was_set_aside(path: str) -> None:
    with closing(Store(path, create=True)) as first, closing(Store(path)) as second:
        first.add(message("A"))
        second.add(message("B"))
        name = first.set_aside()
        assert name is not None
        assert second.set_aside() is None
        for store in (first, second):
            with pytest.raises(StoreError, match="was set aside"):
                store.add(message("C"))
        with closing(Store(path, create=True)) as new:
            new.add(message("D"))
            assert second.set_aside() is None
            first.close()
            second.close()
            new.add(message("E"))  # the log that SQLite deletes with the last one is not this one
    assert stored(path).keys() == {"D", "E"}
    assert stored(name).keys() == {"A", "B"}


def test_who_waited_for_its_turn_meanwhile_does_not_write_into_it_either(path: str) -> None:
    with (
        closing(Store(path, create=True)) as store,
        closing(FileLock(path)) as lock,
        ThreadPoolExecutor() as threads,
    ):
        assert lock.take(TURN)
        waits = threads.submit(store.add, message("A"))
        deadline = time.monotonic() + 10
        while not lock.is_taken(NEXT):
            assert time.monotonic() < deadline
            time.sleep(0.001)  # looks again
        for end in ("", "-wal", "-shm"):
            os.rename(path + end, f"{path}.damaged-now{end}")
        lock.release(TURN)
        with pytest.raises(StoreError, match="was set aside"):
            waits.result(20)
    assert stored(f"{path}.damaged-now") == {}


def test_a_file_is_never_set_aside_over_another_one(path: str) -> None:
    names = set()
    for n in range(2):
        with closing(Store(path, create=True)) as store:
            store.add(message(f"A{n}"))
            names.add(store.set_aside())
    assert sorted(names) == file_moves.all_set_aside(path)
    assert len(names) == 2


def test_a_log_without_its_file_is_set_aside_too(path: str) -> None:
    """As when the power failed between the two."""
    with closing(Store(path, create=True)) as store:
        store.add(message("A"))
        log = Path(path + "-wal").read_bytes()
    os.unlink(path)
    Path(path + "-wal").write_bytes(log)
    Path(path + "-wal").chmod(0o600)

    async def use(sink: Embedded, availability: Availability) -> None:
        await until(lambda: bool(glob(f"{path}.damaged-*.recovered-wal")))

    with_sink(path, use)
    assert stored(path) == bodies([message("A")])


def test_times_and_shared_contents_stay(path: str) -> None:
    shared = Tail.of(b"x" * 3000)
    with closing(Store(path, create=True)) as store:
        store.add([Outgoing(f"A{n}", 3, "base64", b"{", shared, None, 1000) for n in range(5)])
        store.add([Outgoing("B", None, "", b"{", b"x", None, 2000)])
        store.add(message("C"))
        store.delete(["C"])
        assert store.set_aside()

    async def use(sink: Embedded, availability: Availability) -> None:
        await until(lambda: recovered(path))

    with_sink(path, use)
    with closing(Store(path)) as store:
        assert [(one.id, one.stored) for one in store.entries()] == [
            *((f"A{n}", 1000) for n in range(5)),
            ("B", 2000),
        ]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM contents").fetchone() == (1,)


@pytest.mark.parametrize("content", [b"hello" * 5000, b""])
def test_what_was_never_ours_is_not_renamed(path: str, content: bytes) -> None:
    if content:
        Path(path).write_bytes(content)
    else:
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE messages (id)")
    Path(path).chmod(0o600)
    before = Path(path).read_bytes()

    async def use(sink: Embedded, availability: Availability) -> None:
        raise AssertionError

    with pytest.raises(OSError, match=r"this file is no SQLite database|is no queue of fastsmtp"):
        with_sink(path, use)
    assert Path(path).read_bytes() == before
    assert aside(path) == []


def test_a_daemon_loses_only_what_lay_on_the_damaged_pages(tmp_path: Path) -> None:
    """Two workers, pages zeroed under them, and a ledger of what was answered with 250."""
    daemon = Daemon(tmp_path, smtp_threads=2)
    path = str(tmp_path / "queue.db")
    daemon.start()
    try:
        clients = [smtplib.SMTP("127.0.0.1", daemon.port) for _ in range(6)]

        def send(first: int, number: int) -> set[bytes]:
            for n in range(first, first + number):
                text = f"Subject: ~{n:05}\r\n\r\n" + f"~{n:05}\r\n" * 200
                clients[n % 6].sendmail("a@example.com", ["b@example.org"], text)
            return {b"~%05d" % n for n in range(first, first + number)}

        before = send(0, 121)
        with closing(Store(path)) as store:
            store.checkpoint()
        assert daemon.queue("list", "--limit", "1")  # closes the file, as others do
        leaves = pages_of(path, 13)[-6:-2]
        octets = Path(path).read_bytes()
        hit = {
            mark
            for page in leaves
            for mark in re.findall(rb"~\d{5}", octets[(page - 1) * PAGE : page * PAGE])
        }
        zero_pages(path, 1, 3, *leaves)
        after = send(200, 120)
        daemon.wait_for(re.compile(r"messages recovered.*is kept as"))
        after |= send(400, 20)
        for client in clients:
            client.quit()
        daemon.stop()
    finally:
        daemon.close()
    found = {re.findall(rb"~\d{5}", body)[0] for body in stored(path).values()}
    assert after - found == set()
    assert before - found <= hit
    assert before & hit
    assert found <= before | after
    assert daemon.log.count("it is set aside as") == 1
    assert recovered(path)


def test_a_disk_that_damages_every_file_means_451(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def use(sink: Embedded, availability: Availability) -> None:
        assert await put(sink, message("A")) == [None]
        monkeypatch.setattr("fastsmtp.sinks.read_back.check_row", damaged)
        for n in range(3):
            assert [reply and reply.code for reply in await put(sink, message(f"B{n}"))] == [451]
        monkeypatch.undo()
        assert await put(sink, message("C")) == [None]

    def damaged(*_: object) -> None:
        from fastsmtp.sinks.store_errors import StoreDamagedError

        raise StoreDamagedError(path)

    with_sink(path, use)
    assert len(aside(path)) == 1
    assert "takes mail again" in caplog.text
