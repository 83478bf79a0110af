"""What arrived while the last commit ran: the next transaction's messages, small ones first.

`put`, `work` and `close` are the event loop's, `batch` and `works` one thread's. A large message
takes seconds to commit: large ones and small ones have batches of their own, by turns, each in the
order of arrival.
"""

from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Generic, NamedTuple, TypeVar

from fastsmtp.payload import Outgoing
from fastsmtp.sinks.base import Settle

S = TypeVar("S")

LARGE = 1 << 20
"""Bytes of a tail from which on its message counts as large."""

BATCH_ROWS = 256
BATCH_BYTES = 16 << 20
"""A batch takes no further message once it has as much: none waits long, and the event loop does
not answer very many clients in one step."""


class Put(NamedTuple):
    """A message, or those of its recipients that are to be stored."""

    rows: Sequence[Outgoing]
    settle: Settle
    is_held: bool  # the rows are still on their way elsewhere, too


class Arrivals(Generic[S]):
    """Messages, and work on what they are stored in (an `S`), that wait for the thread."""

    def __init__(self) -> None:
        # None: no more will come
        self._arrived: SimpleQueue[Put | Callable[[S], None] | None] = SimpleQueue()
        self._works: list[Callable[[S], None]] = []
        self._small: deque[Put] = deque()
        self._large: deque[Put] = deque()
        self._is_large_next = False
        self._is_closed = False

    def put(self, put: Put) -> None:
        """Add a message."""
        self._arrived.put(put)

    def work(self, work: Callable[[S], None]) -> None:
        """Add work."""
        self._arrived.put(work)

    def works(self) -> list[Callable[[S], None]]:
        """Take the work that came before the messages that `batch` has not given."""
        works, self._works = self._works, []
        return works

    def close(self) -> None:
        """Let `batch` end once it has given everything."""
        self._arrived.put(None)

    def batch(self, timeout: float | None) -> list[Put] | None:
        """Wait `timeout` seconds for a message, None without end; take what goes into one commit.

        Gives an empty list after the timeout, and where only work came; None once it is closed and
        everything was given.
        """
        if not self._small and not self._large and not self._is_closed:
            self._take(timeout)
        while not self._is_closed and not self._arrived.empty():
            self._take(0)
        if self._is_closed and not self._small and not self._large and not self._works:
            return None
        lanes = (self._large, self._small) if self._is_large_next else (self._small, self._large)
        lane = lanes[0] or lanes[1]
        self._is_large_next = lane is self._small
        return _batch(lane)

    def _take(self, timeout: float | None) -> None:
        try:
            put = self._arrived.get(timeout=timeout)
        except Empty:
            return
        if put is None:
            self._is_closed = True
        elif isinstance(put, Put):
            (self._small if put.rows[0].tail.size < LARGE else self._large).append(put)
        else:
            self._works.append(put)


def _batch(lane: deque[Put]) -> list[Put]:
    """The first messages of `lane`."""
    batch: list[Put] = []
    rows = size = 0
    while lane and rows < BATCH_ROWS and size < BATCH_BYTES:
        put = lane.popleft()
        batch.append(put)
        rows += len(put.rows)
        size += put.rows[0].tail.size  # which all recipients share
        size += sum([len(row.prefix) for row in put.rows])
    return batch
