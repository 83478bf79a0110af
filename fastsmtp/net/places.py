"""How many connections each worker has open, in memory that all of them share.

Each worker writes its own slot only, so there is no lock; the supervisor zeroes the slot of one
that ended.
"""

import mmap
import os

SLOTS = 256
"""Worker processes at one time, those of an old generation included."""


def create() -> int:
    """A descriptor of fresh memory, for workers to inherit."""
    descriptor = os.memfd_create("fastsmtp-places")
    os.ftruncate(descriptor, SLOTS * 4)
    return descriptor


class Places:
    """The counts; `slot` is the one that `enter` and `leave` change."""

    def __init__(self, descriptor: int, slot: int) -> None:
        self._counts = memoryview(mmap.mmap(descriptor, SLOTS * 4)).cast("I")
        self._slot = slot

    def enter(self) -> None:
        """One more connection of ours."""
        self._counts[self._slot] += 1

    def leave(self) -> None:
        """One less."""
        self._counts[self._slot] -= 1

    def taken(self) -> int:
        """Connections of all workers."""
        return sum(self._counts)

    def clear(self, slot: int) -> None:
        """Its worker has ended, or a new one begins."""
        self._counts[slot] = 0
