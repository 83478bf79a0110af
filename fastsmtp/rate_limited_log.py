"""Log lines of events that may come in floods: the first is written at once, others are counted.

Events with the same key are of one kind. At most one line per kind and `interval` is written: after
the first one, the latest event and how many there were. The number of kinds is bounded, so that
clients from many addresses cannot fill memory or disk; events of further kinds share one count.
All calls come from the event loop. A timer runs only while something counted is not written yet.
"""

import asyncio
import logging
from collections.abc import Hashable, Mapping

INTERVAL = 60.0
"""Seconds between two lines of one kind."""

MAX_KINDS = 1000
"""Kinds that are told apart."""


class _OtherKinds:
    """Key of every event whose own kind found no room."""


class _Kind:
    """What was written and counted of one kind."""

    __slots__ = ("args", "count", "extra", "message", "written")

    def __init__(self, written: float) -> None:
        self.written = written  # loop time of the last line
        self.count = 0  # events since then
        self.message = ""  # of the latest one of them, as are `args` and `extra`
        self.args: tuple[object, ...] = ()
        self.extra: Mapping[str, object] | None = None


class RateLimitedLog:
    """Writes to a logger at one level."""

    def __init__(
        self,
        log: logging.Logger,
        level: int,
        interval: float = INTERVAL,
        max_kinds: int = MAX_KINDS,
    ) -> None:
        """`interval` is in seconds."""
        self._log = log
        self._level = level
        self._interval = interval
        self._max_kinds = max_kinds
        self._kinds: dict[Hashable, _Kind] = {}  # the one whose last line is oldest comes first
        self._counted = 0  # kinds with a count that is not written yet
        self._timer: asyncio.TimerHandle | None = None

    def event(
        self,
        key: Hashable,
        message: str,
        *args: object,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        """Write the event now, or count it; `message`, `args` and `extra` are the logger's.

        The latest event of a kind is kept for up to `interval`: give small values only.
        """
        if not self._log.isEnabledFor(self._level):
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._forget(now)
        kind = self._kinds.get(key)
        if kind is None and len(self._kinds) < self._max_kinds:
            self._kinds[key] = _Kind(now)
            self._log.log(self._level, message, *args, extra=extra)
            return
        if kind is None:
            kind = self._kinds.setdefault(_OtherKinds, _Kind(now))
            message, args, extra = "more than %d kinds of such events", (self._max_kinds,), None
        if not kind.count:
            self._counted += 1
        kind.count += 1
        kind.message, kind.args, kind.extra = message, args, extra
        if self._timer is None:
            self._set_timer(loop)

    def close(self) -> None:
        """Write every count now; more events may follow."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for kind in self._kinds.values():
            self._write_count(kind)
        self._kinds.clear()

    def _forget(self, now: float) -> None:
        """Forget kinds that may be written again and of which nothing was counted."""
        while self._kinds:
            key, kind = next(iter(self._kinds.items()))
            if kind.count or now - kind.written < self._interval:
                return
            del self._kinds[key]

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        oldest = next(iter(self._kinds.values()))
        self._timer = loop.call_at(oldest.written + self._interval, self._on_timer)

    def _on_timer(self) -> None:
        """Write the counts that are due."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._kinds:
            key, kind = next(iter(self._kinds.items()))
            if now - kind.written < self._interval:
                break
            del self._kinds[key]
            if kind.count:
                self._write_count(kind)
                kind.written = now
                self._kinds[key] = kind  # behind all others
        if self._counted:
            self._set_timer(loop)

    def _write_count(self, kind: _Kind) -> None:
        if kind.count:
            since = asyncio.get_running_loop().time() - kind.written
            message = kind.message + " (%d like this in %.0f s)"
            self._log.log(self._level, message, *kind.args, kind.count, since, extra=kind.extra)
            self._counted -= 1
            kind.count = 0
