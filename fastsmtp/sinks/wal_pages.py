"""The pages in a SQLite write-ahead log, read without SQLite, where the log may be damaged.

Takes the path of a file FILE-wal, and gives which page has its newest version where in it. A frame
counts if it has the salts of the log's present generation. Its checksum is compared where the frame
before it is whole, as it continues that one's. Changes nothing.
https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

import operator
import os
import struct
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

HEADER = 32
FRAME_HEADER = 24

_MAGIC = 0x377F0682  # plus 1: checksums are made of big-endian words

Order = Literal["little", "big"]


class Frame(NamedTuple):
    """A page as some transaction left it."""

    page: int
    offset: int  # of the page in the log
    size_after: int  # pages of the database after the commit that ends here; 0: no end
    is_whole: bool  # False: its checksum tells that it is not


class WalPages:
    """What a log holds; nothing where there is none."""

    def __init__(self, path: str) -> None:
        """Reads the whole log, a frame at a time. Raises OSError."""
        self.page_size = 0  # bytes; 0: unknown
        self.newest: dict[int, int] = {}
        """Page → offset of the newest version, whether or not its commit is there."""
        self.others: list[tuple[int, int | None]] = []
        """Page and offset of other versions that may hold what `newest` has lost.

        Offset None: the version in the database file.
        """
        self.pages: int | None = None  # of the database after the last commit; None: unknown
        self.is_whole = True  # what was committed is there, as far as the log tells
        self._uncommitted: set[int] = set()  # pages whose newest version may not be committed
        self._sure_from = 0  # offset behind the last frame that is damaged
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        self._read_header()

    def _read_header(self) -> None:
        header = self._pread(HEADER, 0)
        self._order: Order = sys.byteorder
        self._seed: bytes | None = None
        self._salts: bytes | None = None
        magic, _, page_size = struct.unpack(">III", header[:12].ljust(12, b"\0"))
        if magic | 1 == _MAGIC | 1 and len(header) == HEADER:
            order: Order = "big" if magic & 1 else "little"
            if checksum(bytes(8), header[:24], order) == header[24:]:
                self._order, self._seed, self._salts = order, header[24:], header[16:24]
                self.page_size = page_size

    def index(self, page_size: int) -> None:
        """Look through all frames, whose pages have `page_size` bytes where the log says no size.

        Raises OSError.
        """
        if self._descriptor is None:
            return
        self.page_size = self.page_size or page_size
        if self._salts is None:
            self._salts = self._salts_of_frames()
        since_commit: list[Frame] = []
        committed: dict[int, int] = {}
        for frame in self._frames():
            if not frame.is_whole:
                self.others.append((frame.page, frame.offset))
                self._sure_from = frame.offset + 1
                continue
            since_commit.append(frame)
            if frame.size_after:
                committed.update((one.page, one.offset) for one in since_commit)
                self.pages = frame.size_after
                since_commit.clear()
        # Whether a commit that is not there any more has ended them, or none ever did, is unknown.
        self._uncommitted = {frame.page for frame in since_commit}
        self.others += [(page, committed.get(page)) for page in self._uncommitted]
        self.newest = committed | {one.page: one.offset for one in since_commit}
        self.is_whole = not self._sure_from and not since_commit
        if not self.is_whole:  # the database file may have what the log has lost
            self.others += [(page, None) for page in self.newest]

    def is_sure(self, page: int) -> bool:
        """Whether no damage hides a newer version of the page than `newest` has, or the file."""
        return page not in self._uncommitted and self.newest.get(page, 0) >= self._sure_from

    def read(self, offset: int) -> bytes:
        """The page there."""
        return self._pread(self.page_size, offset)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _pread(self, size: int, offset: int) -> bytes:
        assert self._descriptor is not None
        return os.pread(self._descriptor, size, offset)

    def _slots(self) -> Iterator[tuple[int, bytes]]:
        """Each frame's offset, and its bytes."""
        step = FRAME_HEADER + self.page_size
        offset = HEADER
        while len(octets := self._pread(step, offset)) == step:
            yield offset, octets
            offset += step

    def _frames(self) -> Iterator[Frame]:
        """The frames of the present generation that have a header."""
        before: bytes | None = self._seed  # the checksum that the next one continues
        is_before_sure = True
        for offset, octets in self._slots():
            page, size_after = struct.unpack(">II", octets[:8])
            salts, stored = octets[8:16], octets[16:24]
            if salts != self._salts:
                if self._is_older(salts):
                    return
                before, is_before_sure = None, False
                self._sure_from = offset + 1
                continue
            is_sure = before is not None and (
                checksum(before, octets[:8] + octets[24:], self._order) == stored
            )
            is_whole = is_sure or before is None or not is_before_sure
            yield Frame(page, offset + FRAME_HEADER, size_after, is_whole)
            before, is_before_sure = stored, is_sure

    def _is_older(self, salts: bytes) -> bool:
        """Whether a frame is left over from an earlier generation: the first salt counts them."""
        if self._salts is None:
            return False
        age = int.from_bytes(self._salts[:4], "big") - int.from_bytes(salts[:4], "big")
        return 0 < age % (1 << 32) < 1 << 16

    def _salts_of_frames(self) -> bytes | None:
        """The salts of the first frame that the one behind it continues; else of the first."""
        first: bytes | None = None
        before: tuple[bytes, bytes] | None = None
        for _, octets in self._slots():
            salts, stored = octets[8:16], octets[16:24]
            continued = before[1] if before and before[0] == salts else None
            if continued and checksum(continued, octets[:8] + octets[24:], self._order) == stored:
                return salts
            if first is None and any(salts):
                first = salts
            before = salts, stored
        return first


def checksum(before: bytes, octets: bytes, order: Order) -> bytes:
    """SQLite's, of `octets` (a multiple of 8) behind others whose checksum is `before`.

    Each sum is the two before it and the next word, so every word counts as often as a Fibonacci
    number says.
    """
    number = len(octets) // 4
    words = struct.unpack(f"{'<' if order == 'little' else '>'}{number}I", octets)
    first, second = struct.unpack(">II", before)
    weights = _fibonacci(number + 1)
    sums = [
        sum(map(operator.mul, words[:used], weights[-used:]))
        + first * weights[-used]
        + second * weights[-used - 1]
        for used in (number - 1, number)
    ]
    return b"".join((one & 0xFFFFFFFF).to_bytes(4, "big") for one in sums)


@lru_cache(maxsize=4)
def _fibonacci(number: int) -> tuple[int, ...]:
    """So many numbers, the last one first."""
    found = [1, 1]
    while len(found) < number:
        found.append(found[-1] + found[-2] & 0xFFFFFFFF)
    return tuple(reversed(found))
