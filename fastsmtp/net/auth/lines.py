"""Lines of attempts that wait: those with one key pass one at a time, or so many at a time.

A place is taken from `enter` until `leave`, or until the time that `leave` was given. Whoever is
cancelled while it waits gives its place in the line up. A line exists while somebody is in it.

The newest is next; after each failure, the oldest and the newest take turns in that. So clients
that guess and wait for their replies are passed by those that come later, and clients that guess,
hang up and come again are passed by those that stay.
"""

import asyncio

MOST_RESTING = 16_384
"""Places that stay taken for a while after `leave`; with more, the oldest are free early."""


class _Line:
    """The attempts of one key."""

    __slots__ = ("newest", "over", "places", "taken", "waiting")

    def __init__(self) -> None:
        self.places = 1  # that there are
        self.taken = 0
        self.over = 0.0  # the loop's time at which its last failure is over
        self.newest = True  # whether the newest of `waiting` is next, or the oldest
        self.waiting: dict[asyncio.Future[None], None] = {}  # in the order in which they came

    def pass_on(self) -> None:
        """Let the next ones pass, as long as there are places."""
        while self.waiting and self.taken < self.places:
            chosen = next(reversed(self.waiting) if self.newest else iter(self.waiting))
            del self.waiting[chosen]
            if not chosen.cancelled():  # a moment ago, and `enter` has not heard of it yet
                self.taken += 1
                chosen.set_result(None)


class Lines:
    """One line per key."""

    def __init__(self) -> None:
        self._lines: dict[bytes, _Line] = {}
        self._resting: dict[object, tuple[bytes, asyncio.TimerHandle]] = {}  # the oldest first

    def __len__(self) -> int:
        """How many lines there are."""
        return len(self._lines)

    async def enter(self, key: bytes, places: int = 1) -> None:
        """Wait for a place of the key, which has at least `places`."""
        line = self._lines.setdefault(key, _Line())
        turn = asyncio.get_running_loop().create_future()
        line.waiting[turn] = None
        self.widen(key, places)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                line.waiting.pop(turn, None)
                self._tidy(key, line)
            else:
                self.leave(key)
            raise

    def widen(self, key: bytes, places: int) -> None:
        """Give the line of the key at least so many places; somebody is in it."""
        line = self._lines[key]
        line.places = max(line.places, places)
        line.pass_on()

    def over(self, key: bytes, since: float, seconds: float) -> float:
        """When a failure that came at `since` and lasts for `seconds` is over.

        It follows the failure before it, whether that attempt was waited for or not. Both are the
        loop's times; whoever says so has a place.
        """
        line = self._lines[key]
        line.over = max(line.over, since) + seconds
        return line.over

    def leave(self, key: bytes, *, failed: bool = False, until: float = 0.0) -> None:
        """Free a place of the key, at the loop's time `until`; say whether the attempt failed."""
        loop = asyncio.get_running_loop()
        if failed:
            line = self._lines[key]
            line.newest = not line.newest
        if until <= loop.time():
            self._free(key)
            return
        if len(self._resting) >= MOST_RESTING:
            self._rested(next(iter(self._resting)))
        place = object()
        self._resting[place] = key, loop.call_at(until, self._rested, place)

    def _rested(self, place: object) -> None:
        key, timer = self._resting.pop(place)
        timer.cancel()
        self._free(key)

    def _free(self, key: bytes) -> None:
        line = self._lines[key]
        line.taken -= 1
        line.pass_on()
        self._tidy(key, line)

    def _tidy(self, key: bytes, line: _Line) -> None:
        if not line.taken and not line.waiting:
            del self._lines[key]
