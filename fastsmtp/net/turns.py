"""What sessions have still to do, a few of them in each round of the event loop.

A client may send in one packet what takes a hundred times as long to answer: the rest of that is
done here, so that a thousand such clients keep nobody else waiting.
"""

import asyncio
from collections import deque
from collections.abc import Callable

ROUND = 32
"""Sessions that go on in one round."""


class Turns:
    """One object per worker."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def add(self, go_on: Callable[[], None]) -> None:
        """Call `go_on`, which raises nothing, once when its turn comes; never at once."""
        self._waiting.append(go_on)
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._scheduled = True
        asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        for _ in range(min(ROUND, len(self._waiting))):
            self._waiting.popleft()()
        if self._waiting and not self._scheduled:
            self._schedule()
