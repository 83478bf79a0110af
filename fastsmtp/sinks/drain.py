"""Store → sink: moves what is in a store into a sink, in the order of arrival.

Takes an open store, a sink that was started, and the availability that this sink writes. A row
is deleted only after the sink has it; what the sink refuses stays, and the rows behind it go on.
At least once: killed between the two, it leaves rows that the next drain puts again.
Opens and closes nothing. Never keeps the event loop waiting, as the store is used in threads; a
window bounds what is in memory.
"""

import asyncio
import math
from collections import Counter
from contextlib import suppress
from functools import partial

from fastsmtp import replies
from fastsmtp.availability import Availability
from fastsmtp.payload import Outgoing
from fastsmtp.replies import Reply
from fastsmtp.sinks.base import Outcomes, Sink
from fastsmtp.sinks.store import Store

WINDOW_ROWS = 2000
WINDOW_OCTETS = 32 << 20
"""Of what was read and is not settled; a row that does not fit is the last one beside them.

A tail that rows share counts once, as it is in memory once.
"""

DELETE_DELAY = 0.1
"""Seconds that a stored row waits for others, to be deleted in one transaction with them."""

DELETE_ROWS = 500
"""Rows deleted in one transaction: whoever else writes to the store comes in between."""

GRACE = 5.0
"""Seconds for the outcomes still due when it was stopped, or the sink went away."""

NAMED = 20
"""Refused rows that are remembered with the reason; the others are counted."""


class Drain:
    """One pass over a store, until it is empty, the sink goes away, or `stop`."""

    def __init__(self, store: Store, sink: Sink, availability: Availability) -> None:
        # For whoever watches; all count rows
        self.in_flight = 0  # put and not settled; after `run` these stay, and may be stored
        self.stored = 0  # the sink has them
        self.deleted = 0  # of those, no longer in the store
        self.refused = 0  # stay, as the sink does not take them
        self.reasons: list[tuple[str, Reply]] = []  # id and outcome of the first `NAMED`
        self.lost = 0  # stay, and may be stored: the sink went away
        # Ours
        self._store = store
        self._sink = sink
        self._availability = availability
        self._octets = 0  # of the bodies in flight
        self._tails: Counter[int] = Counter()  # rows in flight with a tail, by its identity
        self._settled: list[tuple[Outgoing, Reply | None]] = []  # that `_count` will take
        self._to_delete: list[str] = []  # ids
        self._reading = True
        self._last = 0  # seq of the newest row that was read
        self._deadline = math.inf  # the loop's clock; for the last outcomes
        self._wake = asyncio.Event()  # the window has room, or the end is near

    def stop(self) -> None:
        """Read no more; `run` ends when all is settled, after `GRACE` at most."""
        if self._deadline == math.inf:
            self._deadline = asyncio.get_running_loop().time() + GRACE
        self._reading = False
        self._wake.set()

    async def run(self) -> None:
        """Move all rows, those that arrive meanwhile too. Raises StoreError."""
        while self._reading:
            await self._read()
            await self._delete()
            while self._reading and not self._has_room():
                await self._pause()
                await self._delete()
        clock = asyncio.get_running_loop().time
        while self.in_flight and clock() < self._deadline:
            await self._pause()
            await self._delete()
        await self._delete()

    async def _read(self) -> None:
        """Put what fits into the window; where there is nothing more, that was the last read."""
        rows = await asyncio.to_thread(
            self._store.after,
            self._last,
            WINDOW_ROWS - self.in_flight,
            WINDOW_OCTETS - self._octets,
        )
        if not rows:
            self._reading = False
        elif self._reading:
            self._last = rows[-1][0]
            for _, row in rows:
                self._put(row)

    def _put(self, row: Outgoing) -> None:
        self.in_flight += 1
        self._hold(row)
        self._sink.put((row,), partial(self._settle, row))

    def _settle(self, row: Outgoing, outcomes: Outcomes) -> None:
        if not self._settled:
            # When the loop comes round: by then the availability tells whether the sink went away.
            asyncio.get_running_loop().call_soon(self._count)
        self._settled.append((row, outcomes[0]))

    def _count(self) -> None:
        settled, self._settled = self._settled, []
        for row, reply in settled:
            self.in_flight -= 1
            self._let_go(row)
            if reply is None:
                self.stored += 1
                self._to_delete.append(row.id)
            elif self._availability.refusal and reply in (replies.NOT_STORED, replies.NO_SPACE):
                self.lost += 1
                self.stop()
            else:
                self.refused += 1
                if len(self.reasons) < NAMED:
                    self.reasons.append((row.id, reply))
        if not self.in_flight or (self._reading and self._has_room()):
            self._wake.set()

    def _hold(self, row: Outgoing) -> None:
        tail = id(row.tail)
        self._octets += len(row.prefix) if tail in self._tails else row.size
        self._tails[tail] += 1

    def _let_go(self, row: Outgoing) -> None:
        tail = id(row.tail)
        self._tails[tail] -= 1
        self._octets -= len(row.prefix) if self._tails[tail] else row.size
        if not self._tails[tail]:
            del self._tails[tail]

    def _has_room(self) -> bool:
        """Enough for a read that is worth its while."""
        return self.in_flight <= WINDOW_ROWS // 2 and self._octets <= WINDOW_OCTETS // 2

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(DELETE_DELAY):
                await self._wake.wait()
        self._wake.clear()

    async def _delete(self) -> None:
        ids, self._to_delete = self._to_delete, []
        for first in range(0, len(ids), DELETE_ROWS):
            some = ids[first : first + DELETE_ROWS]
            await asyncio.to_thread(self._store.delete, some)
            self.deleted += len(some)
