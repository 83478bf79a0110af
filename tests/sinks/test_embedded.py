"""The sink that needs no broker: what it answers, when, and what is in the file by then."""

import asyncio
import logging
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastsmtp import replies
from fastsmtp._tail import Tail
from fastsmtp.availability import Availability
from fastsmtp.payload import Outgoing
from fastsmtp.replies import Reply
from fastsmtp.sinks.base import Outcomes
from fastsmtp.sinks.embedded import Embedded
from fastsmtp.sinks.queue_counters import QueueCounters
from fastsmtp.sinks.store import Store
from fastsmtp.sinks.store_file import MIN_SIZE
from tests.support.daemon import ROOT

LOAD = (sys.executable, "-m", "tests.support.queue_load")

Answers = dict[str, Reply | None]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "queue.db")


def message(id: str, size: int = 100, recipients: int = 1) -> list[Outgoing]:
    tail = Tail.of(bytes(size))
    return [Outgoing(f"{id}{n}", None, "", b"{", tail) for n in range(recipients)]


async def put(sink: Embedded, *messages: list[Outgoing]) -> list[Reply | None]:
    """Put all at once; give what became of them, which is the same for all recipients."""
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Outcomes]] = [loop.create_future() for _ in messages]
    for one, future in zip(messages, futures, strict=True):
        sink.put(one, future.set_result)
        assert not future.done(), "settled inside put"
    settled = await asyncio.wait_for(asyncio.gather(*futures), 60)
    assert [len(outcomes) for outcomes in settled] == [len(one) for one in messages]
    assert all(len(set(outcomes)) == 1 for outcomes in settled)
    return [outcomes[0] for outcomes in settled]


def with_sink(
    path: str,
    use: Callable[[Embedded, Availability], Awaitable[None]],
    maxsize: int = 1 << 30,
) -> None:
    """Start a sink, use it, close it."""

    async def main() -> None:
        availability = Availability(1 << 30)
        sink = Embedded(path, maxsize, availability, QueueCounters())
        await sink.start()
        try:
            await use(sink, availability)
        finally:
            await sink.close()

    asyncio.run(main())


def stored(path: str) -> list[str]:
    store = Store(path)
    ids = [entry.id for entry in store.entries(limit=1_000_000)]
    store.close()
    return ids


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)  # looks again


def test_every_recipient_is_in_the_file_when_the_answer_comes(path: str) -> None:
    async def use(sink: Embedded, availability: Availability) -> None:
        assert await put(sink, message("A", recipients=3)) == [None]
        assert stored(path) == ["A0", "A1", "A2"]
        assert (
            await put(sink, *(message(f"B{n}", recipients=2) for n in range(300))) == [None] * 300
        )
        assert len(stored(path)) == 603
        assert availability.refusal is None

    with_sink(path, use)
    assert sorted(os.listdir(os.path.dirname(path))) == ["queue.db", "queue.db-lock"]


def test_close_answers_what_was_put_and_what_comes_later(path: str) -> None:
    async def main() -> None:
        sink = Embedded(path, 1 << 30, Availability(1 << 30), QueueCounters())
        await sink.start()
        answers: Answers = {}
        for n in range(50):
            sink.put(
                message(f"A{n}"), lambda outcomes, n=n: answers.update({f"A{n}0": outcomes[0]})
            )
        await sink.close()
        assert answers == {f"A{n}0": None for n in range(50)}
        assert await put(sink, message("B")) == [replies.NOT_STORED]
        await sink.close()

    asyncio.run(main())
    assert stored(path) == [f"A{n}0" for n in range(50)]


def test_the_gate_knows_what_fits_a_row(path: str) -> None:
    async def use(sink: Embedded, availability: Availability) -> None:
        assert availability.body_limit == 1_000_000_000 - 128 * 1024

    with_sink(path, use, maxsize=10 << 30)


def test_a_message_too_large_fails_alone(path: str) -> None:
    async def use(sink: Embedded, availability: Availability) -> None:
        answers = await put(
            sink,
            message("A"),
            message("B", availability.body_limit),
            message("C", availability.body_limit - 1),
        )
        assert answers == [None, replies.TOO_LARGE, None]
        assert availability.refusal is None

    with_sink(path, use, maxsize=8 << 20)
    assert stored(path) == ["A0", "C0"]


def test_a_full_queue_refuses_until_there_is_room(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def use(sink: Embedded, availability: Availability) -> None:
        answers = await put(sink, *(message(f"A{n:03}", 20_000) for n in range(100)))
        assert set(answers) == {None, replies.NO_SPACE}
        kept = [f"A{n:03}0" for n, answer in enumerate(answers) if answer is None]
        assert stored(path) == kept
        assert availability.refusal is replies.NO_SPACE
        assert await put(sink, message("B", 20_000)) == [replies.NO_SPACE]
        await asyncio.sleep(1.2)  # it looks for room once a second
        assert availability.refusal is replies.NO_SPACE
        store = Store(path)
        assert store.purge() == len(kept)
        store.close()
        await until(lambda: availability.refusal is None)
        assert await put(sink, message("C", 20_000)) == [None]

    with_sink(path, use, maxsize=MIN_SIZE)
    assert stored(path) == ["C0"]
    assert len(re.findall("full: mail gets 452 until there is room", caplog.text)) == 1
    assert "has room again" in caplog.text


def test_room_for_a_small_one_is_not_lost_to_a_large_one(path: str) -> None:
    async def use(sink: Embedded, availability: Availability) -> None:
        half = availability.body_limit // 2
        answers = await put(sink, *(message(f"A{n}", half) for n in range(4)), message("B", 10))
        assert answers[0] is None
        assert replies.NO_SPACE in answers
        assert answers[4] is None
        await until(lambda: availability.refusal is None)

    with_sink(path, use, maxsize=4 << 20)


def test_a_message_that_the_file_can_never_hold_is_552_and_others_are_taken(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(sink: Embedded, availability: Availability) -> None:
        answers = await put(
            sink, message("A"), message("B", 1 << 20, recipients=3000), message("C", 100)
        )
        assert answers == [None, replies.TOO_LARGE, None]
        assert availability.refusal is None

    with_sink(path, use, maxsize=20 << 20)
    assert stored(path) == ["A0", "C0"]
    assert "full" not in caplog.text


def test_a_message_that_does_not_fit_now_leaves_room_for_others(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(sink: Embedded, availability: Availability) -> None:
        assert await put(sink, *(message(f"A{n}", 4 << 20) for n in range(3))) == [None] * 3
        for n in range(3):
            assert await put(sink, message(f"B{n}", 7 << 20)) == [replies.NO_SPACE]
            assert availability.refusal is None
            assert await put(sink, message(f"C{n}")) == [None]

    with_sink(path, use, maxsize=24 << 20)
    assert "full" not in caplog.text


def test_another_refusal_is_not_lifted(path: str) -> None:
    async def use(sink: Embedded, availability: Availability) -> None:
        await put(sink, *(message(f"A{n:03}", 20_000) for n in range(100)))
        availability.refusal = replies.UNAVAILABLE
        store = Store(path)
        store.purge()
        store.close()
        await asyncio.sleep(1.5)  # it looks for room once a second
        assert availability.refusal is replies.UNAVAILABLE

    with_sink(path, use, maxsize=MIN_SIZE)


def test_a_disk_that_takes_no_more_means_451_until_it_does(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for the disk: writes beyond it fail."""
    script = """
import asyncio, logging, resource, signal, sys
from fastsmtp.availability import Availability
from fastsmtp.sinks.queue_counters import QueueCounters
from tests.sinks.test_embedded import message, put
from fastsmtp.sinks.embedded import Embedded

async def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sink = Embedded(sys.argv[1], 1 << 30, Availability(1 << 30), QueueCounters())
    await sink.start()
    assert await put(sink, message("A")) == [None]
    whole = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, whole[1]))
    for n in range(3):
        assert [reply.code for reply in await put(sink, message(f"B{n}", 3 << 20))] == [451]
    resource.setrlimit(resource.RLIMIT_FSIZE, whole)
    assert await put(sink, message("C", 3 << 20)) == [None]
    await sink.close()

asyncio.run(main())
"""
    path = str(tmp_path / "queue.db")
    done = subprocess.run(
        [sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert stored(path) == ["A0", "C0"]
    log = done.stdout
    assert log.count("the disk does not take or give the data") == 1, log
    assert f"{path}: " in log
    assert "takes mail again" in log


def test_a_removed_file_costs_one_451(path: str) -> None:
    async def use(sink: Embedded, availability: Availability) -> None:
        assert await put(sink, message("A")) == [None]
        shutil.rmtree(os.path.dirname(path))
        assert await put(sink, message("B")) == [replies.NOT_STORED]
        assert await put(sink, message("C")) == [None]

    with_sink(path, use)
    assert stored(path) == ["C0"]


def test_a_locked_file_means_451_while_it_is(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fastsmtp.sinks.store_file.BUSY_TIMEOUT", 0.2)

    async def use(sink: Embedded, availability: Availability) -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert await put(sink, message("A")) == [replies.NOT_STORED]
        other.execute("ROLLBACK")
        other.close()
        assert await put(sink, message("B")) == [None]

    with_sink(path, use)
    assert stored(path) == ["B0"]
    assert "another process kept it locked" in caplog.text


@pytest.mark.parametrize(
    ("content", "maxsize", "words"),
    [
        (b"no database" * 1000, 1 << 30, "queue-file: .*: this file is no SQLite database"),
        (None, 1000, "queue-maxsize: .* at least 1048576"),
    ],
)
def test_what_cannot_work_is_told_at_the_start(
    tmp_path: Path, content: bytes | None, maxsize: int, words: str
) -> None:
    path = tmp_path / "queue.db"
    if content:
        path.write_bytes(content)
        path.chmod(0o600)

    async def main() -> None:
        await Embedded(str(path), maxsize, Availability(1 << 30), QueueCounters()).start()

    with pytest.raises((OSError, ValueError), match=words):
        asyncio.run(main())


def test_a_folder_that_is_a_file_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def main() -> None:
        await Embedded(
            str(tmp_path / "file" / "queue.db"), 1 << 30, Availability(1 << 30), QueueCounters()
        ).start()

    with pytest.raises(OSError, match=r"queue-file: .*/file"):
        asyncio.run(main())


def test_two_sinks_may_share_a_file(path: str) -> None:
    async def use(sink: Embedded, availability: Availability) -> None:
        async def share(other: Embedded, _: Availability) -> None:
            answers = await asyncio.gather(
                put(sink, *(message(f"A{n}") for n in range(100))),
                put(other, *(message(f"B{n}") for n in range(100))),
            )
            assert answers == [[None] * 100] * 2

        other = Embedded(path, 1 << 30, Availability(1 << 30), QueueCounters())
        await other.start()
        await share(other, availability)
        await other.close()

    with_sink(path, use)
    assert len(stored(path)) == 200


@pytest.mark.parametrize("recipients", [1, 3])
def test_kill_9_under_load_loses_nothing_that_was_answered(path: str, recipients: int) -> None:
    answered: list[str] = []
    for _ in range(3):
        process = subprocess.Popen(
            [*LOAD, path, "1000000", "40", "100000", str(recipients)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert process.stdout
        answered += [process.stdout.readline().decode().split()[0] for _ in range(200)]
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().decode().split("\n")[:-1]
        answered += [line.split()[0] for line in rest]
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
    store = Store(path)
    assert {entry.size for entry in store.entries(limit=1_000_000)} <= {
        len(f"token-{id}-") + 100_000 for id in (answered[0], f"{answered[0]}R1")
    }
    store.close()
    ids = stored(path)
    assert len(answered) >= 600
    assert set(answered) <= set(ids)
    whole = [f"{id}{end}" for id in ids if "R" not in id for end in ("", "R1", "R2")[:recipients]]
    assert ids == whole
    assert len(ids) // recipients - len(answered) <= 3 * 40  # no more than were in flight


def test_no_answer_leaves_before_its_row_is_synced(tmp_path: Path) -> None:
    """In the system calls of the process: row written to the WAL, WAL synced, answer written.

    And a sync serves all that waited for it: there are far fewer than messages.
    """
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    log, path = tmp_path / "strace", str(tmp_path / "queue.db")
    strace = ["strace", "-f", "-y", "-s", "70000", "-e", "trace=pwrite64,write,fdatasync,fsync"]
    done = subprocess.run(
        [*strace, "-o", log, *LOAD, path, "400", "40", "200"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    syncs = check_order(log.read_text(errors="replace"))
    assert len(stored(path)) == 400
    assert 400 // 40 <= syncs <= 400 // 4


def check_order(log: str) -> int:
    """Fail where an answer was written before the sync behind its row; how many syncs of the WAL.

    A call that another thread interrupts is logged in two lines: what counts for a sync is when
    it had returned, for the others when they began.
    """
    written: set[str] = set()
    synced: set[str] = set()
    pending: dict[str, set[str]] = {}  # thread → rows that the sync under way covers
    answers = syncs = 0
    for line in log.splitlines():
        thread, call = line.split(None, 1)
        if call.startswith("pwrite64") and "-wal>" in call:
            written.update(re.findall(r"token-(\w+)-", call))
        elif re.match(r"(fdatasync|fsync)\(\d+<[^>]*-wal>", call):
            pending[thread] = set(written)
        elif answer := re.match(r'write\(1<[^>]*>, "(\w+) stored', call):
            assert answer[1] in synced, f"{answer[1]} was answered before it was on the disk"
            answers += 1
        if re.search(r"(fdatasync|fsync)(\(| resumed).*= 0$", call) and thread in pending:
            synced |= pending.pop(thread)
            syncs += 1
    assert answers == 400
    return syncs


def test_the_order_check_can_fail() -> None:
    row, sync = '7 pwrite64(3</q-wal>, "token-A-", 8) = 8', "7 fdatasync(3</q-wal>) = 0"
    answer = '8 write(1<pipe:[1]>, "A stored\\n", 9) = 9'
    for wrong in ([row, answer, sync], [sync, row, answer], [row, sync.replace("q-wal", "q")]):
        with pytest.raises(AssertionError):
            check_order("\n".join([*wrong, answer]))
    unfinished = [row, "7 fdatasync(3</q-wal> <unfinished ...>", answer]
    with pytest.raises(AssertionError, match="before it was on the disk"):
        check_order("\n".join(unfinished))
