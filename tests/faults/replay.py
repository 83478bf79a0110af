"""The ledger of power cuts: opens what the disk may hold after each, compares with what was said.

A state is judged by what `disk_work` had said before the power went. The judgement, of rows:

- lost: said to be stored, not said to be on the way out, and not there;
- damaged: there with another content than was put, never put at all, or without the rest of a
  batch that is stored or not as a whole;
- revived: said to be deleted, and there again;
- unusable: states which `Store` does not open, does not add to, or that fail SQLite's own check.
"""

import functools
import itertools
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from fastsmtp._tail import Tail
from fastsmtp.payload import Outgoing
from fastsmtp.sinks.store import Store
from tests.faults.disk_work import message, row
from tests.faults.power_cut import State, Volume, choices
from tests.support.daemon import ROOT
from tests.support.disk import Disk, Op, Record

MARKER = "marker"

QUEUE = "state/fastsmtp/queue.db"

SHM = "/dev/shm"  # fsync costs nothing there


@dataclass
class Said:
    """What `disk_work` had said when the power went; ids of rows."""

    put: list[list[str]] = field(default_factory=list)  # batches
    stored: set[str] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)  # said to be deleted, or about to be
    deleted: set[str] = field(default_factory=set)

    def hear(self, line: bytes) -> None:
        verb, *ids = json.loads(line)
        match verb:
            case "put":
                self.put.append(ids)
            case "stored":
                self.stored |= {*ids}
            case "delete":
                self.leaving |= {*ids}
            case "deleted":
                self.deleted |= {*ids}


@dataclass
class Verdict:
    """Over all states; `lost` and the like count rows in all of them."""

    records: int = 0
    states: int = 0
    lost: int = 0
    damaged: int = 0
    revived: int = 0
    unusable: int = 0
    first: str = ""  # the first state that something was wrong with
    deepest: int = 0  # rows said to be stored, in the state with most of them

    def __str__(self) -> str:
        return " · ".join(f"{name} {value}" for name, value in vars(self).items() if value != "")

    @property
    def faults(self) -> int:
        return self.lost + self.damaged + self.revived + self.unusable


class Recording:
    """What one life of a queue file did to its disk."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records

    @classmethod
    def of(cls, folder: Path, *ways: str) -> Self:
        """Run these ways of `disk_work`, one after the other, on a disk in `folder`.

        Those that a comma separates run at the same time.
        """
        drive, work = folder / "disk", folder / "work"
        for each in (drive, work):
            each.mkdir(parents=True)
        disk = Disk(drive, work, recorded=True)
        seeds = itertools.count(1)
        for together in ways:
            running = [
                subprocess.Popen(
                    [
                        *(sys.executable, "-m", "tests.faults.disk_work", way),
                        *(disk.folder / QUEUE, disk.folder / MARKER, str(next(seeds))),
                    ],
                    env={**os.environ, **disk.environment},
                    cwd=ROOT,
                )
                for way in together.split(",")
            ]
            assert {process.wait(60) for process in running} == {0}
        recording = cls([*disk.records()])
        recording.compare(disk.folder)
        return recording

    def compare(self, folder: Path) -> None:
        """What was recorded must lead to what is in `folder` now: nothing was missed."""
        volume = Volume()
        for number, record in enumerate(self.records):
            volume.feed(number, record)
        recorded = volume.root.state(lambda change: [change])
        real: State = {
            str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
            for path in folder.rglob("*")
        }
        assert recorded.keys() == real.keys()
        for path, content in real.items():
            assert content == recorded[path] or path.endswith("-shm"), path

    def judge(
        self,
        cuts: int | None,
        by_chance: int,
        seed: int,
        forgets: Callable[[str], bool] = lambda _: False,
        until_fault: bool = False,
    ) -> Verdict:
        """Cut the power behind every record, or at `cuts` of them that are spread evenly.

        `by_chance`: states of each cut besides the extremes. `forgets`: see `Volume`.
        `until_fault`: end with the first state that something is wrong with.
        """
        verdict = Verdict(len(self.records))
        chance = random.Random(seed)
        seen: set[int] = set()
        with tempfile.TemporaryDirectory(dir=SHM if os.access(SHM, os.W_OK) else None) as place:
            for number, volume, said in self._cuts(cuts, forgets):
                for choice in choices(volume, chance, by_chance):
                    state = volume.root.state(choice)
                    state.pop(MARKER, None)
                    if (key := _key(state, said)) not in seen:
                        seen.add(key)
                        folder = Path(place) / str(len(seen))
                        _look(folder, state, said, verdict, f"{number}, seed {seed}", chance)
                        shutil.rmtree(folder)
                        if until_fault and verdict.faults:
                            return verdict
        return verdict

    def _cuts(
        self, cuts: int | None, forgets: Callable[[str], bool]
    ) -> Iterator[tuple[int, Volume, Said]]:
        volume, said = Volume(forgets), Said()
        points = [n for n, record in enumerate(self.records) if _matters(record)]
        step = max(1.0, len(points) / (cuts or len(points)))
        chosen = {points[int(n * step)] for n in range(int(len(points) / step))} | {points[-1]}
        for number, record in enumerate(self.records):
            volume.feed(number, record)
            if record.op is Op.WRITE and volume.path(record) == MARKER:
                for line in record.data.splitlines():
                    said.hear(line)
            if number in chosen:
                yield number, volume, said


def _matters(record: Record) -> bool:
    """Whether the disk, or what was said, may be another one behind it."""
    return record.op not in (Op.OPEN, Op.FOLDER, Op.SYNC)


def _key(state: State, said: Said) -> int:
    """The same for states that need to be looked at once only."""
    files = ((path, content) for path, content in state.items() if not path.endswith("-shm"))
    return hash((len(said.put), len(said.stored), len(said.deleted), frozenset(files)))


def _look(
    folder: Path, state: State, said: Said, verdict: Verdict, where: str, chance: random.Random
) -> None:
    """Make the state's files below `folder`, open the queue as the daemon does, judge."""
    folder.mkdir()
    for path, content in state.items():
        if content is None:
            (folder / path).mkdir(0o700)
            continue
        if path.endswith("-shm"):  # it is mapped: anything may be in it
            content = chance.randbytes(len(content))
        (folder / path).touch(0o600)
        (folder / path).write_bytes(content)
    verdict.states += 1
    verdict.deepest = max(verdict.deepest, len(said.stored))
    before = verdict.faults
    try:
        found = _found(str(folder / QUEUE), verdict)
    except Exception as error:  # a damaged file may show itself by any
        verdict.unusable += 1
        where += f": {error!r}"
        found = Counter()
    lost = _compare(said, found, verdict)
    if verdict.faults > before and not verdict.first:
        verdict.first = f"behind record {where}: lost {lost}"


def _compare(said: Said, found: Counter[str], verdict: Verdict) -> list[str]:
    """Judge the rows that were `found`; gives those that are lost."""
    lost = said.stored - said.leaving - found.keys()
    known = {id for batch in said.put for id in batch}
    verdict.lost += len(lost)
    verdict.revived += len(said.deleted & found.keys())
    verdict.damaged += sum(count - 1 for count in found.values()) + len(found.keys() - known)
    for batch in said.put:
        there = found.keys() & batch
        if there and len(there) < len({*batch} - said.leaving):
            verdict.damaged += 1
    return sorted(lost)


def _found(path: str, verdict: Verdict) -> Counter[str]:
    """The ids that are there; counts those whose content is not what was put."""
    store = Store(path, 1 << 30, create=True)
    found: Counter[str] = Counter()
    for _, outgoing in store.after(0, 1_000_000, 1 << 30):
        if _wanted(outgoing.id.rpartition(".")[0]).get(outgoing.id) != _body(outgoing):
            verdict.damaged += 1
        found[outgoing.id] += 1
    store.add([row("later", Tail.of(b"mail that comes after the power cut"))])
    assert store.get("later")
    store.close()
    db = sqlite3.connect(path)
    try:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        db.close()
    return found


@functools.cache
def _wanted(name: str) -> dict[str, bytes]:
    """The bodies of the message with this name, by the ids of its rows."""
    return {each.id: _body(each) for each in message(name)}


def _body(outgoing: Outgoing) -> bytes:
    return outgoing.prefix + bytes(outgoing.tail)
