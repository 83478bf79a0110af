"""Queue files of schema 1: what is in them after the migration, and whoever uses them meanwhile.

`schema-1.db.gz` was written by a fastsmtp that knew no other; `schema-1.md` says what is in it.
"""

import asyncio
import gzip
import hashlib
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import orjson
import pytest

from fastsmtp._tail import Tail
from fastsmtp.availability import Availability
from fastsmtp.payload import Outgoing
from fastsmtp.sinks.base import Settle
from fastsmtp.sinks.drain import Drain
from fastsmtp.sinks.store import Store
from tests.support.daemon import COMMAND, ROOT

PACKED = Path(__file__).with_name("schema-1.db.gz")

# number, seconds since 1970, priority, encoding, bytes of prefix and tail, SHA-256 of the body
KEPT = [
    (1, 1760000000, None, "", 78, 136, "451266016db028e2952eaacb78ec3ce887d5550fcd0c87a3d5b0fd33"),
    (2, 1760000001, 7, "base64", 79, 1510, "39ff7ae17f283c490254022c2b36874b142aff20b6b91e294c36"),
    (4, 1760000002, None, "", 80, 11329, "00e3efd0d8e98906fdcea3be8584e2d2362cd056161dc7be8f3290"),
    (5, 1760000002, None, "", 80, 11329, "2fcc358f2e53d8eadfe9ee50223bbf5f5790b18077588cfd3e3933"),
    (6, 1760000002, None, "", 80, 11329, "6ea10331d36d0f616bf8e8915534bffab7480ac200c4e4349ba188"),
    (7, 1760000003, 0, "", 78, 1400126, "45e971d825901940ab3d83e08ee5032ab184d53d2f93ff22d44cb291"),
    (9, 1760000003, 255, "", 77, 148, "f058b933c927efa26d21477d6cbe4ee266375ff244c5b9f323aed657"),
]

# What a process of schema 1 does, in its own words
OLD_INSERT = "INSERT INTO messages (id, priority, encoding, stored, prefix, tail) VALUES "
OLD_SIZES = (
    "SELECT seq, length(prefix) + length(tail) FROM messages WHERE seq > ? ORDER BY seq LIMIT ?"
)
OLD_READ = (
    "SELECT seq, id, priority, encoding, prefix, tail FROM messages "
    "WHERE seq > ? AND seq <= ? ORDER BY seq"
)
OLD_DELETE = "DELETE FROM messages WHERE id = ?"
OLD_PURGE = (
    "DELETE FROM messages WHERE seq IN "
    "(SELECT seq FROM messages WHERE seq <= ? ORDER BY seq LIMIT ?)"
)


def name(number: int) -> str:
    return f"01K73SCHEMA1{number:018}"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A copy of the file."""
    path = tmp_path / "queue.db"
    path.write_bytes(gzip.decompress(PACKED.read_bytes()))
    path.chmod(0o600)
    return str(path)


def version(path: str) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def described(seq: int, stored: int, message: Outgoing) -> tuple[object, ...]:
    body = bytes(message)
    return (
        *(seq, stored, message.priority, message.encoding),
        *(len(message.prefix), message.tail.size, hashlib.sha256(body).hexdigest()),
    )


def holds_what_was_kept(store: Store) -> None:
    """All messages of the file are in the store, and before all others."""
    entries = store.entries(limit=len(KEPT))
    assert [entry.id for entry in entries] == [name(number) for number, *_ in KEPT]
    for kept, entry, (seq, message) in zip(
        KEPT, entries, store.after(0, len(KEPT), 1 << 30), strict=True
    ):
        for found in (message, store.get(entry.id)):
            assert found is not None
            assert (found.id, found.route) == (entry.id, None)
            *facts, digest = described(seq, entry.stored, found)
            assert (tuple(facts), entry.size) == (kept[:-1], found.size)
            assert str(digest).startswith(str(kept[-1]))
        assert entry.head == bytes(message)[: len(entry.head)]


def contents(path: str) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM contents").fetchone()[0])


def to_three(id: str) -> list[Outgoing]:
    tail = Tail.of(os.urandom(3000))
    return [Outgoing(f"{id}{n}", None, "", b"prefix-", tail) for n in range(3)]


def test_everything_is_there_byte_for_byte(path: str) -> None:
    assert version(path) == 1
    store = Store(path)
    assert version(path) == 3
    assert (store.count(), store.span(), store.newest()) == (7, 9, 9)
    holds_what_was_kept(store)
    store.close()
    again = Store(path)
    holds_what_was_kept(again)
    again.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_new_mail_comes_behind_the_old(path: str) -> None:
    store = Store(path)
    added = to_three("NEW")
    store.add(added)
    holds_what_was_kept(store)
    new = store.after(9, 10, 1 << 30)
    assert [(seq, one.id, bytes(one.tail)) for seq, one in new] == [
        (11 + n, one.id, bytes(one.tail)) for n, one in enumerate(added)
    ]
    assert contents(path) == 1
    assert store.delete([name(4), name(7), "NEW0"]) == 3
    assert [entry.seq for entry in store.entries()] == [1, 2, 5, 6, 9, 12, 13]
    assert store.purge() == 7
    assert (store.count(), contents(path)) == (0, 0)
    assert store.octets() < 100_000
    store.close()


def test_a_drain_takes_it_all(path: str) -> None:
    taken: list[Outgoing] = []

    class Taker:
        def put(self, message: Sequence[Outgoing], settle: Settle) -> None:
            taken.extend(message)
            asyncio.get_running_loop().call_soon(settle, [None] * len(message))

    async def main() -> None:
        await Drain(store, Taker(), Availability(1 << 30)).run()

    store = Store(path)
    asyncio.run(main())
    assert [one.id for one in taken] == [name(number) for number, *_ in KEPT]
    digests = [hashlib.sha256(bytes(one)).hexdigest() for one in taken]
    for digest, (*_, kept) in zip(digests, KEPT, strict=True):
        assert digest.startswith(str(kept))
    assert store.count() == 0
    store.close()


def test_the_operators_commands_work_on_it(path: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> bytes:
        return subprocess.check_output(
            [*COMMAND, "queue", *arguments, "--queue-file", path], cwd=ROOT, timeout=60
        )

    lines = run("list").decode().splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [str(number) for number, *_ in KEPT]
    assert lines[-1] == "7 messages"
    assert orjson.loads(run("show", "9"))["mime"].endswith("Schöne Grüße.\r\n")
    assert run("show", "2", "--mime") == bytes(range(256)) * 4
    run("export", str(tmp_path / "out"))
    assert len(list((tmp_path / "out").iterdir())) == 7
    assert run("purge", "--yes") == b"7 messages deleted\n"


def test_a_new_file_has_the_same_tables(path: str, tmp_path: Path) -> None:
    def tables(path: str) -> list[Any]:
        with closing(sqlite3.connect(path)) as db:
            kept = [
                db.execute(f"PRAGMA {pragma}").fetchone()
                for pragma in ("user_version", "application_id", "auto_vacuum", "page_size")
            ]
            return kept + db.execute("SELECT type, name, sql FROM sqlite_master").fetchall()

    Store(path).close()
    new = str(tmp_path / "new.db")
    Store(new, create=True).close()
    assert tables(path) == tables(new)


def test_the_migration_reads_and_writes_little_however_large_the_file(path: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000) "
            + OLD_INSERT.removesuffix("VALUES ")
            + "SELECT 'MANY' || i, NULL, '', 0, x'', randomblob(2500) FROM n"
        )
        db.commit()
    assert os.stat(path).st_size > 32_000_000

    def read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    before = read()
    store = Store(path)
    assert read() - before < 1_000_000
    assert os.stat(path + "-wal").st_size < 500_000
    assert store.count() == 12007
    store.close()


KILLED_AT_STATEMENT = """
import os, signal, sqlite3, sys
from fastsmtp.sinks.store import Store

connect, left = sqlite3.connect, int(sys.argv[2])

def statement(sql):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

def traced(*arguments, **options):
    db = connect(*arguments, **options)
    db.set_trace_callback(statement)
    return db

sqlite3.connect = traced
Store(sys.argv[1]).close()
"""

WHOLE = "import sys; from fastsmtp.sinks.store import Store; Store(sys.argv[1]).close()"


def killed_at_statement(path: str, number: int) -> list[str]:
    return [sys.executable, "-c", KILLED_AT_STATEMENT, path, str(number)]


def killed_at_write(path: str, number: int) -> list[str]:
    """Python itself writes nothing by pwrite64: these are SQLite's, to the WAL and to the file."""
    inject = f"inject=pwrite64:signal=SIGKILL:when={number}"
    return ["strace", "-o", "/dev/null", "-e", inject, sys.executable, "-c", WHOLE, path]


@pytest.mark.parametrize(("command", "least"), [(killed_at_statement, 15), (killed_at_write, 8)])
def test_killed_at_any_step_it_is_whole_before_or_after(
    path: str, command: Callable[[str, int], list[str]], least: int
) -> None:
    if command is killed_at_write and not shutil.which("strace"):
        pytest.skip("strace is not installed")
    untouched = Path(path).read_bytes()
    found: list[int] = []
    while True:
        for end in ("", "-wal", "-shm"):
            Path(path + end).unlink(missing_ok=True)
        Path(path).write_bytes(untouched)
        Path(path).chmod(0o600)
        done = subprocess.run(
            command(path, len(found) + 1), cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        if "Operation not permitted" in done.stderr:
            pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
        found.append(version(path))
        store = Store(path)
        holds_what_was_kept(store)
        store.add(to_three("NEW"))
        assert store.count() == 10
        store.close()
        assert version(path) == 3
        if done.returncode == 0:  # it came to its end first
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(found) > least
    assert found == sorted(found)
    assert set(found) == {1, 3}


def open_and_add(path: str, id: str, barrier: Barrier) -> None:
    barrier.wait(60)
    store = Store(path)
    store.add(to_three(id))
    store.close()


def test_of_processes_that_open_it_at_once_one_migrates_and_the_others_wait(path: str) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(6)
    ids = [f"P{n}" for n in range(5)]
    workers = [context.Process(target=open_and_add, args=(path, id, barrier)) for id in ids]
    with closing(sqlite3.connect(path, isolation_level=None)) as held:
        held.execute("BEGIN IMMEDIATE")  # they meet here
        for worker in workers:
            worker.start()
        barrier.wait(60)
        held.execute("COMMIT")
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    store = Store(path)
    holds_what_was_kept(store)
    new = [entry.id for entry in store.entries(after=9)]
    assert sorted(new) == [f"{id}{n}" for id in ids for n in range(3)]
    store.close()
    assert contents(path) == 5


def serve(path: str, asked: Connection) -> None:
    """A process of schema 1: runs the SQL that it is sent on one connection."""
    db = sqlite3.connect(path, isolation_level=None)
    while (question := asked.recv()) is not None:
        try:
            asked.send(db.execute(*question).fetchall())
        except sqlite3.Error as error:
            asked.send(repr(error))
    db.close()


@pytest.fixture
def old(path: str) -> Iterator[Callable[..., Any]]:
    """Runs SQL in a process that has opened the file before it was migrated."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(path, theirs))
    process.start()

    def ask(sql: str, *parameters: object) -> Any:
        ours.send((sql, parameters))
        assert ours.poll(60)
        return ours.recv()

    assert ask("SELECT count(*) FROM messages") == [(7,)]
    yield ask
    ours.send(None)
    process.join(60)
    assert process.exitcode == 0


def test_an_old_process_goes_on_adding_reading_and_deleting(
    path: str, old: Callable[..., Any]
) -> None:
    old("BEGIN")
    assert len(old(OLD_READ, 0, 100)) == 7
    store = Store(path)  # it does not wait for readers
    assert len(old(OLD_READ, 0, 100)) == 7
    assert old("COMMIT") == []
    assert old("BEGIN IMMEDIATE") == []
    values = ("OLD1", 3, "base64", 1, b"prefix-", b"own", "OLD2", None, "", 1, b"prefix-", 1 << 20)
    assert old(f"{OLD_INSERT}(?,?,?,?,?,?),(?,?,?,?,?,zeroblob(?))", *values) == []
    assert old("COMMIT") == []
    holds_what_was_kept(store)
    found = [
        (seq, one.id, one.priority, bytes(one.tail)) for seq, one in store.after(9, 10, 1 << 30)
    ]
    assert found == [(11, "OLD1", 3, b"own"), (12, "OLD2", None, bytes(1 << 20))]
    store.add([Outgoing("NEW", None, "", b"prefix-", b"own")])
    assert old(OLD_SIZES, 12, 10) == [(13, 10)]
    assert old(OLD_READ, 12, 13) == [(13, "NEW", None, "", b"prefix-", b"own")]
    assert old(OLD_DELETE, "NEW") == []
    assert store.get("NEW") is None
    store.close()


def test_an_old_process_fails_on_a_shared_tail_instead_of_taking_less(
    path: str, old: Callable[..., Any]
) -> None:
    store = Store(path)
    store.add(to_three("NEW"))
    rows = old(OLD_READ, 9, 100)
    assert len(rows) == 3
    for _, *row in rows:
        *_, prefix, tail = row
        with pytest.raises(TypeError):
            len(tail)  # the drain of schema 1 begins with it
        with pytest.raises(TypeError):
            b"".join((prefix, tail))
    store.close()


def test_an_old_process_leaves_no_content_behind(path: str, old: Callable[..., Any]) -> None:
    store = Store(path)
    store.add(to_three("A"))
    store.add(to_three("B"))
    for id in ("A1", "A0"):
        assert old(OLD_DELETE, id) == []
    assert contents(path) == 2
    assert store.get("A2") is not None
    assert old(OLD_DELETE, "A2") == []
    assert contents(path) == 1
    assert old(OLD_PURGE, 100, 500) == []
    assert (store.count(), contents(path)) == (0, 0)
    store.close()
