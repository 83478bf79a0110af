"""After a power cut at any moment, the queue file holds all mail that was said to be stored.

What the disk may hold is made from a recording (`power_cut`), and opened as the daemon opens it
(`replay`). The daily run cuts the power now and then, `make faults` behind every single write.
"""

import random
from pathlib import Path

import pytest

from tests.faults.ledger import Ledger
from tests.faults.power_cut import SECTOR, Volume, choices
from tests.faults.replay import Recording
from tests.faults.test_kills import ROUNDS, Record
from tests.support import disk
from tests.support.disk import Op

CUTS = 15 if ROUNDS == 1 else None
BY_CHANCE = 1 if ROUNDS == 1 else 3

LIVES = [
    ("life", "sink,sink"),
    ("killed-at-first", "fill"),
    ("fails-twice",),
    ("fails-and-restarts",),
    ("fails-and-is-looked-at",),
]
if ROUNDS > 1:
    LIVES += [
        ("life", "life", "sink"),
        ("sink,sink,sink",),
        ("sink", "fails-on"),
        ("fails-once",),
        ("fails-on", "life"),
    ]
"""Ways of `disk_work`, one after the other; with a comma, side by side."""


@pytest.mark.timeout(120 * ROUNDS)
@pytest.mark.parametrize("ways", LIVES, ids="+".join)
def test_a_power_cut_loses_no_mail(
    ways: tuple[str, ...], tmp_path: Path, ledger: Ledger, record_property: Record
) -> None:
    verdict = Recording.of(tmp_path, *ways).judge(CUTS, BY_CHANCE, ledger.seed)
    record_property("ledger", str(verdict))
    assert verdict.faults == 0, verdict
    assert verdict.states >= 40
    assert verdict.deepest > 2


@pytest.mark.parametrize("way", ["early", "synchronous-off", "synchronous-normal"])
def test_it_finds_a_store_that_breaks_its_promise(way: str, tmp_path: Path) -> None:
    assert Recording.of(tmp_path, way).judge(40, 1, 1, until_fault=True).lost > 0


def test_it_finds_every_fsync_that_is_missing(tmp_path: Path) -> None:
    recording = Recording.of(tmp_path, "life")
    for end in ("queue.db-wal", "queue.db", "/fastsmtp", "state"):
        forgets = lambda path, end=end: path.endswith(end)  # noqa: E731
        assert recording.judge(40, 1, 1, forgets, until_fault=True).faults > 0, end


def volume(*records: disk.Record) -> Volume:
    made = Volume()
    for number, record in enumerate(records):
        made.feed(number, record)
    return made


def contents(made: Volume) -> set[bytes | None]:
    """All that may be in the file "file"; None where it may be missing."""
    chance = random.Random(1)
    return {made.root.state(choice).get("file") for choice in choices(made, chance, 200)}


OPEN = disk.Record(Op.OPEN, 0, 1, 0, "file", b"")
OPEN_FOLDER = disk.Record(Op.FOLDER, 0, 2, 0, "", b"")
ON_DISK = (
    *(OPEN, OPEN_FOLDER),
    *(disk.Record(Op.SYNC, 0, 2, 1, "", b""), disk.Record(Op.SYNCED, 0, 2, 1, "", b"")),
)
"""A new file, whose name is sure."""


def write(data: bytes, offset: int = 0) -> disk.Record:
    return disk.Record(Op.WRITE, 0, 1, offset, "", data)


def sync(result: int = 0) -> tuple[disk.Record, disk.Record]:
    return (
        disk.Record(Op.SYNC, 0, 1, 9, "", b""),
        disk.Record(Op.SYNCED, result, 1, 9, "", b""),
    )


def test_what_is_not_synced_may_be_lost_torn_or_there() -> None:
    one, two = b"1" * SECTOR, b"2" * SECTOR
    assert contents(volume(OPEN, write(one), *sync())) == {None, one}
    assert contents(volume(*ON_DISK, write(one + two))) >= {
        *(b"", one, one + two, bytes(SECTOR) + two, bytes(2 * SECTOR))
    }
    assert contents(volume(*ON_DISK, write(one), write(two, SECTOR))) >= {
        *(b"", one, one + two, bytes(SECTOR) + two)
    }
    assert contents(volume(*ON_DISK, write(one + two), *sync())) == {one + two}
    shorter = disk.Record(Op.TRUNCATE, 0, 1, SECTOR, "", b"")
    assert contents(volume(*ON_DISK, write(one + two), *sync(), shorter)) == {one + two, one}


def test_an_fsync_covers_what_was_written_before_it_began() -> None:
    begun, ended = sync()
    made = volume(*ON_DISK, write(b"early"), begun, write(b"late ", 5), ended)
    assert contents(made) == {b"early", b"earlylate ", b"early" + bytes(5)}


def test_what_a_failed_fsync_covered_is_sure_only_once_it_is_written_again() -> None:
    failed = (*ON_DISK, write(b"a" * 1000), *sync(-1), write(b"b" * 10, 1000), *sync())
    assert {bytes(1000) + b"b" * 10, b"a" * 1000 + b"b" * 10} <= contents(volume(*failed))
    again = (*failed, write(b"a" * 600), *sync())
    assert {content[:600] for content in contents(volume(*again)) if content} == {b"a" * 600}
    assert len(contents(volume(*again))) > 1
    assert contents(volume(*again, write(b"a" * 400, 600), *sync())) == {b"a" * 1000 + b"b" * 10}
