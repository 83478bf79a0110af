"""Damage that is noticed before the next commit counts as done."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastsmtp.payload import Outgoing
from fastsmtp.sinks.store import LARGE, Store
from fastsmtp.sinks.store_errors import StoreDamagedError
from tests.support.damage import PAGE, overwrite, root, zero_pages

COUNT = 300


def rows(first: int, number: int, size: int = 2500) -> list[Outgoing]:
    return [
        Outgoing(f"ID{n:030}", None, "", b"{", os.urandom(size))
        for n in range(first, first + number)
    ]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "queue.db")


@pytest.fixture
def store(path: str) -> Iterator[Store]:
    """One that has written already: the pages that it needs are in its memory."""
    made = Store(path, create=True)
    made.add(rows(0, COUNT))
    made.close()
    store = Store(path)
    store.add(rows(COUNT, 1))
    store.checkpoint()
    yield store
    store.close()


MESSAGES, IDS = 3, 4
"""Where the table of the messages begins, and the index of their ids."""


def test_the_pages_are_where_these_tests_think(path: str, store: Store) -> None:
    assert root(path, "messages") == MESSAGES
    assert root(path, "sqlite_autoindex_messages_1") == IDS


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: overwrite(path, 0, bytes(PAGE)), id="first page"),
        pytest.param(lambda path: overwrite(path, 0, bytes(100)), id="header"),
        pytest.param(lambda path: overwrite(path, 0, b"\xff" * 16), id="magic"),
        pytest.param(lambda path: overwrite(path, 16, b"\x10\0"), id="page size"),
        pytest.param(lambda path: overwrite(path, 100, bytes(PAGE - 100)), id="tables"),
        pytest.param(lambda path: overwrite(path, PAGE - 4096, bytes(4096)), id="half of them"),
        pytest.param(lambda path: zero_pages(path, MESSAGES), id="table's root"),
        pytest.param(lambda path: zero_pages(path, IDS), id="index's root"),
        pytest.param(lambda path: zero_pages(path, *range(3, 2000)), id="all but two"),
        pytest.param(lambda path: os.truncate(path, 100 * PAGE), id="cut"),
        pytest.param(lambda path: os.truncate(path, 0), id="emptied"),
    ],
)
def test_damage_is_noticed_by_the_next_commit(
    path: str, store: Store, damage: Callable[[str], None]
) -> None:
    damage(path)
    with pytest.raises(StoreDamagedError, match="the file is damaged"):
        store.add(rows(1000, 1, 10))  # needs no new page: that would write the first one anew


@pytest.mark.parametrize("first", [0, PAGE - 4096])
def test_a_first_page_that_the_log_mends_is_no_damage(path: str, first: int) -> None:
    """A power cut while the log was brought into the file leaves it so."""
    store = Store(path, create=True)
    store.add(rows(0, 50))
    overwrite(path, first, bytes(4096))
    store.add(rows(100, 1, 10))
    reader = Store(path)
    with reader._file.transaction("DEFERRED"):  # the log cannot be brought into the file whole
        assert reader.count() == 51
        store.add(rows(200, 50))
        overwrite(path, first, bytes(4096))
        store.add(rows(300, 1, 10))
    reader.close()
    store.close()
    again = Store(path)
    assert again.is_sound(lambda: True)
    assert again.count() == 102
    again.close()


def test_damage_to_the_log_is_noticed_by_the_next_commit(path: str, store: Store) -> None:
    store.add(rows(1000, 60))  # whose pages above them are in the log
    log = path + "-wal"
    overwrite(log, 32, bytes(os.path.getsize(log) - 32))
    with pytest.raises(StoreDamagedError):
        store.add(rows(2000, 1))


@pytest.mark.parametrize("size", [0, 2500, 50_000, LARGE, 3 * LARGE])
def test_whole_rows_are_no_damage(path: str, store: Store, size: int) -> None:
    shared = rows(5000, 1, size)[0].tail
    for first in (3000, 3003):
        store.add(rows(first, 3, size))
        store.add([Outgoing(f"S{first}{n}", 1, "base64", b"{", shared) for n in range(3)])
    store.checkpoint()
    store.add(rows(3006, 1, size))
    assert store.count() == COUNT + 1 + 13


def test_two_stores_of_a_process_keep_each_others_locks(path: str, store: Store) -> None:
    """Closing any descriptor of a file drops the locks that the process has on it."""
    other = Store(path)
    other.add(rows(1000, 1))
    other.close()
    look = (
        "import fcntl, os, sys; file = os.open(sys.argv[1], os.O_RDWR); "
        "fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)"
    )
    done = subprocess.run(
        [sys.executable, "-c", look, path], capture_output=True, text=True, check=False
    )
    assert "BlockingIOError" in done.stderr
