"""The locks beside a queue file: one process at a time, gone with the process, each in its turn."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastsmtp.sinks.file_lock import FileLock
from fastsmtp.sinks.store import Store
from tests.support.daemon import ROOT


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "queue.db")


def test_one_at_a_time(path: str) -> None:
    first, second = FileLock(path), FileLock(path)
    assert first.take(7)
    assert not second.take(7)
    assert second.is_taken(7)
    assert not first.is_taken(7), "its own lock is nobody else's"
    assert second.take(8)
    first.release(7)
    assert not second.is_taken(7)
    assert second.take(7)


def test_a_wait_ends_with_the_lock_or_in_time(path: str) -> None:
    first, second = FileLock(path), FileLock(path)
    assert first.take(0)
    began = time.monotonic()
    assert not second.wait(0, 0.05)
    assert time.monotonic() - began < 5
    first.close()
    assert second.wait(0, 5)


def test_it_ends_with_the_process(path: str) -> None:
    code = (
        "import sys, time; from fastsmtp.sinks.file_lock import FileLock; "
        "lock = FileLock(sys.argv[1]); print(lock.take(3), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    lock = FileLock(path)
    assert lock.is_taken(3)
    assert not lock.take(3)
    process.kill()
    process.communicate()
    assert not lock.is_taken(3)
    assert lock.take(3)


def test_several_may_share_what_nobody_takes_alone_then(path: str) -> None:
    ours, others, third = FileLock(path), FileLock(path), FileLock(path)
    assert not third.is_taken(3)
    ours.share(3)
    others.share(3)
    assert third.is_taken(3)
    assert not third.take(3)
    ours.close()
    assert third.is_taken(3)
    others.close()
    assert third.take(3)


def test_whoever_inherits_it_keeps_it(path: str) -> None:
    ours = FileLock(path)
    assert ours.take(3)
    heir = subprocess.Popen(["sleep", "60"], pass_fds=[ours.fileno()])
    ours.close()
    try:
        assert FileLock(path).is_taken(3)
    finally:
        heir.kill()
        heir.wait()
    assert not FileLock(path).is_taken(3)


def test_only_the_owner_can_open_it(path: str) -> None:
    before = os.umask(0)
    try:
        FileLock(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path + "-lock").st_mode) == 0o600
    os.chmod(path + "-lock", 0o666)
    with pytest.raises(OSError, match="-lock has mode 0666, which lets others in"):
        FileLock(path)
    with pytest.raises(OSError, match="-lock has mode 0666, which lets others in"):
        Store(path, create=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_makes_is_the_owners_of_the_queue(path: str) -> None:
    Path(path).touch(0o600)
    os.chown(path, 65534, 65534)
    FileLock(path)
    assert os.stat(path + "-lock").st_uid == 65534


WRITER = """
import sys
from time import monotonic
from fastsmtp.payload import Outgoing
from fastsmtp.sinks.store import Store

store = Store(sys.argv[1])
print(flush=True)
sys.stdin.readline()
end, longest, count = monotonic() + 1.5, 0.0, 0
while (begun := monotonic()) < end:
    store.add([Outgoing(f"{sys.argv[2]}{count}", None, "", b"{", b"}")])
    longest, count = max(longest, monotonic() - begun), count + 1
print(longest, count, flush=True)
"""


def test_processes_write_by_turns(path: str) -> None:
    Store(path, create=True).close()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, path, name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "ABC"
    ]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    said = [writer.communicate()[0].split() for writer in writers]
    counts = [int(count) for _, count in said]
    assert min(counts) > max(counts) / 5, counts
    assert max(float(longest) for longest, _ in said) < 3 * 0.5, said
