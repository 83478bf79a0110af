"""How many connections each worker has open, and from where, in memory that all of them share.

Each worker writes its own slot only, so there is no lock; the supervisor zeroes the slot of one
that ended. Client addresses are hashed, with a key that no client knows, to two of so many cells a
slot, so the memory is bounded. Who shares both cells with others counts theirs, too: a limit may
hold earlier than it should, but never later.
"""

import mmap
import os
import struct
from hashlib import blake2b

from fastsmtp.addresses import client_network

SLOTS = 256
"""Worker processes at one time, those of an old generation included."""

KEY = 16
"""Octets of the hash's key, the first of the memory; then come the counts, then the cells."""

ROWS, CELLS = 2, 1 << 14
"""Of a slot; a network counts in one cell of each row."""

WORD = 4
"""Octets of a count, or of a cell; pages that nobody has touched take no memory."""

CELLS_AT = KEY + SLOTS * WORD
SIZE = CELLS_AT + SLOTS * ROWS * CELLS * WORD


def create() -> int:
    """A descriptor of fresh memory, for workers to inherit."""
    descriptor = os.memfd_create("fastsmtp-connections")
    os.ftruncate(descriptor, SIZE)
    os.pwrite(descriptor, os.urandom(KEY), 0)
    return descriptor


class ConnectionCounts:
    """The counts; `slot` is the one that `open` and `close` change."""

    def __init__(self, descriptor: int, slot: int) -> None:
        self._memory = memoryview(mmap.mmap(descriptor, SIZE))
        self._key = bytes(self._memory[:KEY])
        self._counts = self._memory[KEY:CELLS_AT].cast("I")
        self._cells = self._memory[CELLS_AT:].cast("I")
        self._slot = slot

    def open(self) -> None:
        """One more connection of ours."""
        self._counts[self._slot] += 1

    def close(self) -> None:
        """One less."""
        self._counts[self._slot] -= 1

    def total(self) -> int:
        """Connections of all workers."""
        total = 0
        for count in self._counts:
            total += count
        return total

    def open_from(self, address: str) -> int:
        """One more of ours from `address`; gives how many all workers have from its network.

        Of two that come at the same time both may count each other.
        """
        start = self._slot * ROWS * CELLS
        hashed = self._hashed(address)
        for cell in hashed:
            self._cells[start + cell] += 1
        starts = [slot * ROWS * CELLS for slot, number in enumerate(self._counts) if number]
        if not self._counts[self._slot]:
            starts.append(start)
        return min(sum(self._cells[each + cell] for each in starts) for cell in hashed)

    def close_from(self, address: str) -> None:
        """One less of ours from `address`."""
        start = self._slot * ROWS * CELLS
        for cell in self._hashed(address):
            self._cells[start + cell] -= 1

    def clear(self, slot: int) -> None:
        """Its worker has ended, or a new one begins."""
        self._counts[slot] = 0
        size = ROWS * CELLS * WORD
        start = CELLS_AT + slot * size
        self._memory[start : start + size] = bytes(size)

    def _hashed(self, address: str) -> tuple[int, int]:
        """The cells of the client's network."""
        digest = blake2b(client_network(address), digest_size=4, key=self._key).digest()
        first, second = struct.unpack("=HH", digest)
        return first % CELLS, CELLS + second % CELLS
