"""What arrived while the last commit ran: the next transaction's messages, small ones first.

`put` and `close` are the event loop's, `batch` is one thread's. A large message takes seconds to
commit: large ones and small ones have batches of their own, by turns, each in the order of arrival.
"""

from collections import deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from fastsmtp.payload import Outgoing
from fastsmtp.sinks.base import Settle

LARGE = 1 << 20
"""Bytes of a tail from which on its message counts as large."""

BATCH_ROWS = 256
BATCH_BYTES = 16 << 20
"""A batch takes no further message once it has as much: none waits long, and the event loop does
not answer very many clients in one step."""

Put = tuple[Sequence[Outgoing], Settle]


class Arrivals:
    """Messages that wait for the thread."""

    def __init__(self) -> None:
        self._arrived: SimpleQueue[Put | None] = SimpleQueue()  # None: no more will come
        self._small: deque[Put] = deque()
        self._large: deque[Put] = deque()
        self._is_large_next = False
        self._is_closed = False

    def put(self, put: Put) -> None:
        """Add a message."""
        self._arrived.put(put)

    def close(self) -> None:
        """Let `batch` end once it has given everything."""
        self._arrived.put(None)

    def batch(self, timeout: float | None) -> list[Put] | None:
        """Wait `timeout` seconds for a message, None without end; take what goes into one commit.

        Gives an empty list after the timeout, None once it is closed and everything was given.
        """
        if not self._small and not self._large and not self._is_closed:
            self._take(timeout)
        while not self._is_closed and not self._arrived.empty():
            self._take(0)
        if self._is_closed and not self._small and not self._large:
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
        else:
            (self._small if put[0][0].tail.size < LARGE else self._large).append(put)


def _batch(lane: deque[Put]) -> list[Put]:
    """The first messages of `lane`."""
    batch: list[Put] = []
    rows = size = 0
    while lane and rows < BATCH_ROWS and size < BATCH_BYTES:
        put = lane.popleft()
        batch.append(put)
        message = put[0]
        rows += len(message)
        size += message[0].tail.size  # which all recipients share
        size += sum([len(row.prefix) for row in message])
    return batch
