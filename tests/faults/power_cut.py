"""What a disk may hold after a power cut, made from what was recorded (tests/support/disk.py).

What an fsync that succeeded covers is there for sure. Of what came later, any part may be there:
writes in any order and torn between sectors, lengths, and what was done to folders, which only the
fsync of a folder makes sure. What an fsync that failed covered may never reach the disk, whatever
later ones say, unless it is written again: the kernel takes such pages for clean.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.support.disk import Op, Record

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""

State = dict[str, bytes | None]
"""Path → content; None: a folder."""


@dataclass(eq=False)
class Change:
    """One write or truncate of a file, or an entry of a folder, that may be lost."""

    number: int  # of its record
    offset: int = 0  # of a write
    data: bytes | None = None  # None: a truncate
    size: int = 0  # after a truncate
    name: str = ""  # of a folder's entry
    node: "File | Folder | None" = None  # None: the entry is removed
    is_doubtful: bool = False  # an fsync that covered it has failed


Choice = Callable[[Change], list[Change]]
"""What of a change is on the disk: all of it, nothing, or some of its sectors."""


@dataclass(eq=False)
class File:
    """A file's content: what is sure, and what came later."""

    sure: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def settle(self, before: int) -> None:
        """An fsync that began at record `before` has succeeded."""
        later: list[Change] = []
        for change in self.pending:
            if change.number >= before or change.is_doubtful:
                later.append(change)
                continue
            _do(self.sure, change)  # what it has gone over can no longer come up
            begin, end = change.size, math.inf
            if change.data is not None:
                begin, end = change.offset, change.offset + len(change.data)
            later = [part for each in later for part in _without(each, begin, end)]
        self.pending = later

    def content(self, choice: Choice) -> bytes:
        content = bytearray(self.sure)
        for change in self.pending:
            for part in choice(change):
                _do(content, part)
        return bytes(content)


@dataclass(eq=False)
class Folder:
    """A folder's entries: what is there now, what is sure, and what came later."""

    now: "dict[str, File | Folder]" = field(default_factory=dict)
    sure: "dict[str, File | Folder]" = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)

    def change(self, number: int, name: str, node: "File | Folder | None") -> None:
        _enter(self.now, name, node)
        self.pending.append(Change(number, name=name, node=node))

    def settle(self, before: int) -> None:
        """An fsync that began at record `before` has succeeded."""
        for change in self.pending:
            if change.number < before:
                _enter(self.sure, change.name, change.node)
        self.pending = [change for change in self.pending if change.number >= before]

    def state(self, choice: Choice, path: str = "") -> State:
        """All that is in it after a power cut."""
        entries = dict(self.sure)
        for change in self.pending:
            if choice(change):
                _enter(entries, change.name, change.node)
        found: State = {}
        for name, node in entries.items():
            if isinstance(node, File):
                found[path + name] = node.content(choice)
            else:
                found[path + name] = None
                found |= node.state(choice, f"{path}{name}/")
        return found


class Volume:
    """A disk, as far as its records have been fed."""

    def __init__(self, forgets: Callable[[str], bool] = lambda _: False) -> None:
        """`forgets`: paths whose fsyncs do nothing, though they succeed; a lying disk."""
        self.root = Folder()
        self._forgets = forgets
        self._open: dict[int, tuple[str, File | Folder]] = {}
        self._begun: dict[int, int] = {}  # syncs: what names it → number of its record

    def feed(self, number: int, record: Record) -> None:
        """The next thing that was done to the disk."""
        match record.op:
            case Op.OPEN | Op.FOLDER:
                self._open[record.id] = record.path, self._opened(number, record)
            case Op.WRITE:
                self._file(record).pending.append(Change(number, record.offset, record.data))
            case Op.TRUNCATE:
                self._file(record).pending.append(Change(number, size=record.offset))
            case Op.SYNC:
                self._begun[record.offset] = number
            case Op.SYNCED:
                self._sync(self._begun.pop(record.offset), record)
            case Op.MKDIR:
                self._change(number, record.path, Folder())
            case Op.UNLINK:
                self._change(number, record.path, None)
            case Op.RENAME:
                node = self._node(record.path)
                self._change(number, record.path, None)
                self._change(number, record.data.decode(), node)

    def pending(self) -> Iterator[Change]:
        """All that may be lost, of what is there now."""
        nodes: list[File | Folder] = [self.root]
        while nodes:
            node = nodes.pop()
            yield from node.pending
            if isinstance(node, Folder):
                nodes += {*node.now.values(), *node.sure.values()}

    def path(self, record: Record) -> str:
        """Of the file that was opened for this record's call."""
        return self._open[record.id][0]

    def _opened(self, number: int, record: Record) -> "File | Folder":
        if (node := self._node(record.path)) is None:
            node = File()
            self._change(number, record.path, node)
        return node

    def _file(self, record: Record) -> File:
        node = self._open[record.id][1]
        assert isinstance(node, File)
        return node

    def _sync(self, begun: int, record: Record) -> None:
        path, node = self._open[record.id]
        if self._forgets(path):
            return
        if record.result == 0:
            node.settle(begun)
            return
        for change in node.pending:
            if change.number < begun and change.data is not None:
                change.is_doubtful = True

    def _node(self, path: str) -> "File | Folder | None":
        node: File | Folder | None = self.root
        for name in filter(None, path.split("/")):
            node = node.now.get(name) if isinstance(node, Folder) else None
        return node

    def _change(self, number: int, path: str, node: "File | Folder | None") -> None:
        above, _, name = path.rpartition("/")
        folder = self._node(above)
        assert isinstance(folder, Folder), path
        folder.change(number, name, node)


def choices(volume: Volume, chance: random.Random, number: int) -> Iterator[Choice]:
    """The extremes of what may be on the disk now, then `number` states by chance."""
    yield lambda _: []
    if not (pending := [*volume.pending()]):
        return
    yield lambda change: [change]
    last = max(pending, key=lambda change: change.number)
    torn = _some(last, chance)
    yield lambda change: [change] if change is last or change.name else []
    yield lambda change: torn if change is last else [change]
    yield lambda change: [change] if change.name else []
    yield lambda change: [] if change.name else [change]
    yield lambda change: [] if change.is_doubtful else [change]
    yield lambda change: [change] if change.name else _blank(change)
    for _ in range(number):
        share, tears = chance.random(), chance.random()
        kept = {
            change: _some(change, chance) if chance.random() < tears else [change]
            for change in pending
            if chance.random() < share
        }
        yield lambda change, kept=kept: kept.get(change, [])


def _some(change: Change, chance: random.Random) -> list[Change]:
    """A part of a write: its beginning, or sectors here and there."""
    if change.data is None:
        return [change]
    sectors = [*_sectors(change)]
    if chance.random() < 0.5:
        return sectors[: chance.randrange(len(sectors))]
    return [sector for sector in sectors if chance.random() < 0.5]


def _sectors(change: Change) -> Iterator[Change]:
    assert change.data is not None
    place = 0
    while place < len(change.data):
        size = SECTOR - (change.offset + place) % SECTOR
        yield Change(change.number, change.offset + place, change.data[place : place + size])
        place += size


def _blank(change: Change) -> list[Change]:
    """Only the file's new length has reached the disk."""
    if change.data is None:
        return [change]
    return [Change(change.number, change.offset + len(change.data), b"")]


def _do(content: bytearray, change: Change) -> None:
    """A write or a truncate; what is between the end and a write behind it is zero."""
    size = change.size if change.data is None else change.offset
    content.extend(bytes(max(0, size - len(content))))
    if change.data is None:
        del content[size:]
    else:
        content[size : size + len(change.data)] = change.data


def _without(change: Change, begin: int, end: float) -> Iterator[Change]:
    """What is left of a doubtful write that another one from `begin` to `end` has gone over."""
    assert change.data is not None
    size = len(change.data)
    before = change.data[: max(0, begin - change.offset)]
    behind = change.data[int(min(size, max(0, end - change.offset))) :]
    for offset, data in ((change.offset, before), (change.offset + size - len(behind), behind)):
        if data:
            yield Change(change.number, offset, data, is_doubtful=True)


def _enter(entries: "dict[str, File | Folder]", name: str, node: "File | Folder | None") -> None:
    if node is None:
        entries.pop(name, None)
    else:
        entries[name] = node
