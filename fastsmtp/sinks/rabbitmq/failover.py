"""Which address of RabbitMQ is tried next, and when: the one place that chooses.

An address that lets us in and stores nothing goes to the end of the line, with a back-off of its
own, until it stores something. Attempts overlap, as RFC 8305 has them for IPv6 and IPv4: an address
that does not answer costs a quarter of a second. Opens nothing itself and keeps nothing open.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from yarl import URL

from fastsmtp._durations import now

T = TypeVar("T")

HEAD_START = 0.25
"""Seconds that an attempt has before the next one begins beside it (RFC 8305 §5)."""

FIRST_BACK_OFF, LAST_BACK_OFF = 1.0, 30.0
"""Seconds in which an address that stored nothing is not tried while others are; doubled."""


def public(address: str) -> str:
    """An address without its password and parameters, for logs."""
    return str(URL(address).with_password(None).with_query(None))


class Address:
    """One node, as all connections of a worker know it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.back_off = 0.0  # seconds; 0: nothing speaks against it
        self.until = 0.0  # monotonic; when its back-off is over

    def stored(self) -> None:
        """It confirmed a publish: what was is past."""
        self.back_off = self.until = 0.0

    def stored_nothing(self) -> None:
        """It let us in and confirmed nothing; several connections may tell it at once."""
        if now() >= self.until:
            self.back_off = min(2 * self.back_off, LAST_BACK_OFF) or FIRST_BACK_OFF
            self.until = now() + self.back_off

    def __str__(self) -> str:
        return public(self.url)


class Addresses:
    """All of them; shared by the connections of a worker."""

    def __init__(self, urls: Sequence[str], worker: int) -> None:
        """`worker` counts from 0: each begins at another address."""
        self._all = [Address(url) for url in urls]
        self._first = worker

    def line(self, connection: int) -> list[Address]:
        """The order in which a connection, counted from 0, tries them."""
        first = (self._first + connection) % len(self._all)
        return sorted(self._all[first:] + self._all[:first], key=lambda each: each.back_off)


async def first_up(
    line: Sequence[Address],
    attempt: Callable[[Address], Coroutine[Any, Any, T]],
    discard: "Callable[[asyncio.Task[T]], None]",
) -> tuple[T | None, dict[Address, BaseException | None]]:
    """What the first attempt gave that succeeded, or None; and those that failed, with the errors.

    The others' tasks go to `discard`, which cancels them: they may succeed nevertheless. An address
    whose back-off is not over is tried when it is, or when all others have failed. An attempt that
    was cancelled by somebody else has failed, with None.
    """
    waiting, running = deque(line), dict[asyncio.Task[T], Address]()
    failed: dict[Address, BaseException | None] = {}
    next_start = 0.0
    try:
        while waiting or running:
            if waiting:
                start = max(next_start, waiting[0].until)
                if not running or now() >= start:
                    address = waiting.popleft()
                    running[asyncio.create_task(attempt(address))] = address
                    next_start = now() + HEAD_START
                    continue
            timeout = start - now() if waiting else None
            done, _ = await asyncio.wait(
                running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                address = running.pop(task)
                if not task.cancelled() and task.exception() is None:
                    return task.result(), failed
                failed[address] = None if task.cancelled() else task.exception()
                next_start = 0.0
        return None, failed
    finally:
        for task in running:
            discard(task)
