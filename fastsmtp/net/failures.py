"""How often each address, and each user's name, has failed to authenticate lately.

The counts are in memory that all workers share. An address (its network) or a name falls into one
of BUCKETS by a keyed hash. A bucket is a row of one time per worker: the moment at which everything
in it is forgotten. A failure pushes the latest time of the row further and writes it into the
worker's own column, so there is no lock, nothing need be cleaned up, and what a worker that ended
has seen still counts. A name counts whether or not such a user exists.
"""

import hashlib
import mmap
import os
import time

from fastsmtp.addresses import client_network
from fastsmtp.net.connection_counts import SLOTS

BUCKETS = 4096
"""Addresses and names that share one share its failures."""

FORGET = 300.0
"""Seconds until one failure is forgotten."""

MOST = 8
"""Failures that are remembered of an address or a name."""

FIRST_DELAY, LAST_DELAY = 0.5, 30.0
"""Seconds that a failure's answer is kept back: the first one, doubling to the last."""

_KEY = 32  # bytes before the rows: what addresses and names are hashed with


def create() -> int:
    """A descriptor of fresh memory, for workers to inherit."""
    descriptor = os.memfd_create("fastsmtp-failures")
    os.ftruncate(descriptor, _KEY + BUCKETS * SLOTS * 8)
    os.pwrite(descriptor, os.urandom(_KEY), 0)
    return descriptor


class Failures:
    """The times; `slot` is the column that `add` writes."""

    def __init__(self, descriptor: int, slot: int) -> None:
        memory = memoryview(mmap.mmap(descriptor, _KEY + BUCKETS * SLOTS * 8))
        self._key = bytes(memory[:_KEY])
        self._times = memory[_KEY:].cast("d")
        self._slot = slot

    def add(self, address: str, user: str) -> float:
        """One more failure of both; gives the seconds to keep its answer back.

        The one of the two that has failed more often decides.
        """
        of_address = self._push(self._row(b"address", client_network(address)))
        of_user = self._push(self._row(b"user", user.encode()))
        return delay(max(of_address, of_user))

    def has_failed(self, address: str) -> bool:
        """Whether a failure of the address is not forgotten."""
        row = self._row(b"address", client_network(address))
        return max(self._times[row : row + SLOTS]) > time.monotonic()

    def _push(self, row: int) -> float:
        """One more failure in the row; gives how many there are now."""
        now = time.monotonic()  # one clock for all processes of the machine
        before = max(now, *self._times[row : row + SLOTS])
        forgotten = min(before + FORGET, now + MOST * FORGET)
        self._times[row + self._slot] = forgotten
        return (forgotten - now) / FORGET

    def _row(self, kind: bytes, name: bytes) -> int:
        """Where the row of an address or a name begins."""
        digest = hashlib.blake2b(name, key=self._key, person=kind, digest_size=4).digest()
        return int.from_bytes(digest) % BUCKETS * SLOTS


def delay(failures: float) -> float:
    """Seconds to keep the answer to a failure back, where this one made it so many."""
    return float(min(LAST_DELAY, FIRST_DELAY * 2 ** (failures - 1)))
