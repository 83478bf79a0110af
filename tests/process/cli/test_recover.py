"""`fastsmtp queue recover`, and what the other commands say of a damaged queue."""

import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fastsmtp.payload import Outgoing
from fastsmtp.sinks.store import Store
from tests.process.cli.test_queue import COMMAND, ENVIRONMENT
from tests.support.damage import PAGE, overwrite, pages_of, zero_pages

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue" / "queue.db"


@pytest.fixture
def run(path: Path) -> Run:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments, "--queue-file", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            env=ENVIRONMENT,
        )

    return run


def rows(beginning: str, number: int) -> list[Outgoing]:
    return [
        Outgoing(f"{beginning}{n:04}", None, "", b'{"a":"', b"x" * 2000 + b'"}', None, 1000)
        for n in range(number)
    ]


def fill(path: Path, beginning: str, number: int) -> None:
    with closing(Store(str(path), create=True)) as store:
        store.add(rows(beginning, number))


def ids(path: Path) -> list[str]:
    with closing(Store(str(path))) as store:
        assert {entry.stored for entry in store.entries()} == {1000}
        return [entry.id for entry in store.entries()]


def of(rows: list[Outgoing]) -> list[str]:
    return [row.id for row in rows]


def test_a_file_from_elsewhere_goes_into_the_queue(
    path: Path,
    run: Run,
    tmp_path: Path,
) -> None:
    damaged = tmp_path / "damaged.db"
    fill(damaged, "A", 30)
    fill(path, "A", 3)
    overwrite(str(damaged), 0, bytes(PAGE))
    zero_pages(str(damaged), pages_of(str(damaged), 13)[-2])
    before = damaged.read_bytes()
    done = run("recover", str(damaged))
    found = ids(path)
    assert 3 < len(found) < 30
    assert set(found) <= set(of(rows("A", 30)))
    lost = 30 - len(found)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{len(found) - 3} messages recovered, 3 were in the queue already; at least {lost} "
        f"messages lost on damaged pages; the queue is {path}\n"
    )
    assert damaged.read_bytes() == before
    assert f"0 messages recovered, {len(found)} were" in run("recover", str(damaged)).stdout
    assert ids(path) == found


@pytest.mark.parametrize("exists", [True, False])
def test_what_was_set_aside_is_marked(path: Path, run: Run, exists: bool) -> None:
    fill(path, "A", 5)
    with closing(Store(str(path))) as store:
        name = store.set_aside()
    assert name is not None
    if exists:
        fill(path, "B", 1)
    done = run("recover", name)
    assert done.returncode == 0, done.stderr
    assert f"is kept as {name}.recovered: delete it" in done.stdout
    assert os.path.exists(f"{name}.recovered")
    assert not os.path.exists(name)
    assert ids(path) == of([*rows("B", exists), *rows("A", 5)])


def test_the_queue_itself_is_set_aside_where_it_is_damaged(path: Path, run: Run) -> None:
    fill(path, "A", 30)
    whole = run("recover", str(path))
    assert whole.returncode == 1
    assert whole.stderr == f"fastsmtp: {path} is the queue itself, and not damaged\n"
    page = pages_of(str(path), 13)[-2]
    overwrite(str(path), page * PAGE - 300, bytes(300))  # of one message, which nobody reads now
    listed = run("list")
    assert listed.returncode == 1
    assert f'the file is damaged; "fastsmtp queue recover {path}"' in listed.stderr
    done = run("recover", str(path))
    assert done.returncode == 0, done.stderr
    assert "29 messages recovered; at least 1 message lost" in done.stdout
    assert len(ids(path)) == 29
    assert run("list").returncode == 0


def test_a_file_that_is_in_use_elsewhere_is_refused(
    path: Path,
    run: Run,
    tmp_path: Path,
) -> None:
    used = tmp_path / "used.db"
    fill(used, "A", 1)
    with closing(Store(str(used))):
        done = run("recover", str(used))
    assert done.returncode == 1
    assert f"{used} is in use by process {os.getpid()}" in done.stderr
    assert not path.exists()


@pytest.mark.parametrize("content", [None, b"", b"hello" * 9000])
def test_what_holds_no_mail_is_told(
    path: Path,
    run: Run,
    tmp_path: Path,
    content: bytes | None,
) -> None:
    other = tmp_path / "other"
    if content is not None:
        other.write_bytes(content)
    done = run("recover", str(other))
    assert done.returncode == 1
    words = "No such file" if content is None else "there is no message of a queue in it"
    assert words in done.stderr


def test_another_programs_file_is_not_renamed(path: Path, run: Run) -> None:
    path.parent.mkdir()
    path.write_bytes(b"hello" * 9000)
    path.chmod(0o600)
    done = run("recover", str(path))
    assert done.returncode == 1
    assert "this file is no SQLite database" in done.stderr
    assert os.listdir(path.parent) == [path.name]
