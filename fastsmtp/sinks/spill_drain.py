"""Spill → broker, beside new mail: one process at a time moves rows over a channel of its own.

Takes rows that are held by nobody, oldest first. A row is deleted only after the broker's ack; one
that the broker does not take stays and is tried again later, and the others go on. New mail comes
first: at most half of the window is used, and less where confirms take long.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp.payload import Outgoing
from fastsmtp.rate_limited_log import RateLimitedLog
from fastsmtp.replies import Reply
from fastsmtp.sinks.base import Outcomes, Settle
from fastsmtp.sinks.file_lock import DRAIN, FileLock
from fastsmtp.sinks.rabbitmq.delivery import Delivery
from fastsmtp.sinks.recovery import OnSetAside
from fastsmtp.sinks.spill_counters import SpillCounters
from fastsmtp.sinks.spill_file import SpillFile
from fastsmtp.sinks.store_errors import StoreDamagedError

log = logging.getLogger(__name__)

T = TypeVar("T")

POLL_INTERVAL = 0.5
"""Seconds between two looks for rows, or for the lock."""

SETTLE_DELAY = 0.05
"""Seconds in which outcomes are collected for one transaction."""

LOOK_INTERVAL = 5.0
"""Seconds between two looks for rows of processes that have died."""

WINDOW_OCTETS = 32 << 20
"""Of what was read and is not settled; a larger row travels alone."""

READ_OCTETS = 8 << 20
"""Of what is read at once."""

IDLE = 10.0
"""Seconds without a row after which the connection is closed."""

REFUSALS_IN_A_ROW = 100
"""Rows that the broker did not take, one behind the other, after which it has a pause."""

FIRST_PAUSE, LAST_PAUSE = 1.0, 30.0
"""Seconds of that: doubled each time."""


class Lane(Protocol):
    """A connection to the broker that others do not use; see `rabbitmq.link.Link`."""

    @property
    def takes_mail(self) -> bool:
        """It is up, and not blocked."""

    def put(self, message: Sequence[Outgoing], delivery: Delivery) -> None:
        """Publish over it."""

    async def close(self) -> None:
        """Let go of it; what is not settled is settled."""


class _Row(Delivery):
    """The publish of a row: it is settled by the broker's word, or the end of its channel."""

    def __init__(self, settle: Settle) -> None:
        super().__init__(1, settle, _nothing)

    def give_up(self, position: int, refusal: Reply) -> bool:
        """Never: it would be published again while the broker may still take it."""
        return False


class SpillDrain:
    """Of one worker process; drains while this one has the lock."""

    def __init__(
        self,
        open_file: Callable[[], SpillFile],
        lock: FileLock,
        open_lane: Callable[[], Lane],
        encoded: Callable[[Sequence[Outgoing]], Sequence[Outgoing]],
        window: int,
        patience: float,
        counters: SpillCounters,
        on_set_aside: OnSetAside,
    ) -> None:
        """`window` in publishes: rabbitmq-throttle; `patience` in seconds: rabbitmq-spill-after.

        `on_set_aside` is told when the file was damaged, in the thread that reads it.
        """
        self.is_elected = False
        self.in_flight: dict[int, Outgoing] = {}  # put and not settled, by seq
        self._busy: set[int] = set()  # they, and those whose outcome is not in the file yet
        self._open_file = open_file
        self._lock = lock
        self._open_lane = open_lane
        self._encoded = encoded  # makes of rows what is published
        self._most = max(1, window // 2)
        self._window = max(1, self._most // 4)
        self._slow = patience / 4  # seconds of a confirm that takes long
        self._halved = 0.0  # monotonic; when the window was last halved
        self._counters = counters
        self._on_set_aside = on_set_aside
        self._file: SpillFile | None = None
        self._lane: Lane | None = None
        self._octets = 0  # of what is in flight
        self._published: list[int] = []  # seqs
        self._refused: list[int] = []  # seqs
        self._in_a_row = 0  # refused since the last that was published
        self._pause = FIRST_PAUSE
        self._paused_until = 0.0  # monotonic
        self._looked = 0.0  # monotonic; for rows of the dead
        self._moved = 0  # rows published since there was one
        self._idle_since = 0.0  # monotonic
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "drain")  # what uses the file
        self._log = RateLimitedLog(log, logging.WARNING)

    async def run(self) -> None:
        """Until cancelled; goes on after every error."""
        try:
            while True:
                try:
                    await self._elect()
                    await self._drain()
                except OSError as error:
                    self._log.event(("error", str(error)), "%s: what is in it waits", error)
                    if isinstance(error, StoreDamagedError) and self._file is not None:
                        await self._do(self._set_aside, self._file, error)
                    await self._let_go()
                await asyncio.sleep(POLL_INTERVAL)
        finally:
            await self._let_go()
            self._thread.shutdown(wait=False)
            self._log.close()

    def _set_aside(self, file: SpillFile, error: StoreDamagedError) -> None:
        """What is behind the damage would never be published; it is recovered into a new file."""
        try:
            name = file.set_aside()
        except OSError as other:
            log.error("%s cannot be set aside: %s", file.path, other)
        else:
            if name:
                self._on_set_aside(error, name)

    async def is_empty(self) -> bool:
        """No row is left that may be published now; only where it is elected. Raises StoreError."""
        if self._file is None:
            return True
        return not self._busy and not await self._do(self._file.due, 1)

    async def tell_what_stays(self) -> None:
        """Log what is in the file at the end, where this process drains it."""
        file = self._file
        if file is not None:
            with suppress(OSError):
                stays = await self._do(file.count) - len(self._published)
                if stays > 0:
                    log.warning(
                        "the spill: %d messages stay in %s; the next start publishes them",
                        stays,
                        file.path,
                    )

    async def _do(self, work: "Callable[..., T]", *arguments: Any) -> "T":
        """Work on the file, after what was begun there."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _elect(self) -> None:
        while not self._lock.take(DRAIN):  # noqa: ASYNC110
            await asyncio.sleep(POLL_INTERVAL)
        self.is_elected = True
        await self._do(self._open)

    def _open(self) -> None:
        """Runs in the thread: whoever is cancelled meanwhile lets go of what it opens."""
        if self._file is None:
            self._file = self._open_file()
            self._file.adopt()

    async def _let_go(self) -> None:
        """Give lane, file and lock back; what the broker has said is in the file by then."""
        lane, self._lane = self._lane, None
        if lane is not None:
            await lane.close()
        await self._do(self._close, *self._take_settled())
        self.in_flight.clear()
        self._busy.clear()
        self._octets = 0
        if self.is_elected:
            self.is_elected = False
            self._lock.release(DRAIN)

    def _close(self, published: list[int], refused: list[int]) -> None:
        """Runs in the thread, behind what was begun there."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.settle(published, refused)
        except OSError as error:
            log.warning("%s: rows that RabbitMQ has are published again", error)
        file.close()

    async def _drain(self) -> None:
        file = self._file
        assert file is not None
        while True:
            if now() - self._looked > LOOK_INTERVAL:
                self._looked = now()
                await self._do(file.release_dead, self._lock)
            await self._settle_file(file)
            seqs = await self._do(file.due, len(self._busy) + self._window)
            seqs = [seq for seq in seqs if seq not in self._busy]
            if seqs:
                await self._publish(file, seqs)
            elif not self._busy:
                await self._rest()
            self._wake.clear()
            timeout = SETTLE_DELAY if self.in_flight else POLL_INTERVAL
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout)

    async def _rest(self) -> None:
        """Nothing is left to publish."""
        if self._moved:
            log.info("the spill: %d messages were published, none is left for now", self._moved)
            self._moved = 0
            self._idle_since = now()
        if self._lane is not None and now() - self._idle_since > IDLE:
            lane, self._lane = self._lane, None
            await lane.close()

    async def _publish(self, file: SpillFile, seqs: list[int]) -> None:
        """Put as many of these rows as fit now."""
        if self._lane is None:
            self._lane = self._open_lane()
        lane = self._lane
        room = self._window - len(self.in_flight)
        octets = min(READ_OCTETS, WINDOW_OCTETS - self._octets)
        if not lane.takes_mail or room <= 0 or octets <= 0 or now() < self._paused_until:
            return
        for seq, row in await self._do(self._read, file, seqs[:room], octets):
            if not lane.takes_mail:
                return
            self.in_flight[seq] = row
            self._busy.add(seq)
            self._octets += row.size
            lane.put((row,), _Row(partial(self._settle, seq, now())))

    def _read(self, file: SpillFile, seqs: list[int], octets: int) -> list[tuple[int, Outgoing]]:
        """Runs in the thread."""
        return [(seq, self._encoded((row,))[0]) for seq, row in file.read(seqs, octets)]

    def _settle(self, seq: int, begun: float, outcomes: Outcomes) -> None:
        row = self.in_flight.pop(seq, None)
        if row is None:
            return
        self._octets -= row.size
        outcome = outcomes[0]
        if outcome is None:
            self._published.append(seq)
            self._moved += 1
            self._in_a_row, self._pause = 0, FIRST_PAUSE
            self._counters.spill_published += 1
            self._adapt(now() - begun)
        elif outcome in (replies.NOT_STORED, replies.NO_SPACE):
            self._counters.spill_repeated += 1  # it may be stored; it is due as before
            self._busy.discard(seq)
        else:
            self._refused.append(seq)
            self._refuse(row, outcome)
        self._wake.set()

    def _adapt(self, seconds: float) -> None:
        """A confirm took so long: publish more at once, or less."""
        if seconds <= self._slow:
            self._window = min(self._window + 1, self._most)
        elif now() - self._halved > seconds:  # once for what was in flight together
            self._halved = now()
            self._window = max(1, self._window // 2)

    def _refuse(self, row: Outgoing, outcome: Reply) -> None:
        self._log.event(
            ("stuck", outcome),
            "the spill: RabbitMQ does not take message %s (%s): it stays and is tried again",
            row.id,
            outcome.lines[0],
        )
        self._in_a_row += 1
        if self._in_a_row >= REFUSALS_IN_A_ROW:
            self._in_a_row = 0
            self._paused_until = now() + self._pause
            self._pause = min(2 * self._pause, LAST_PAUSE)

    async def _settle_file(self, file: SpillFile) -> None:
        published, refused = self._take_settled()
        if published or refused:
            try:
                await self._do(file.settle, published, refused)
            except OSError:
                self._published += published
                self._refused += refused
                raise
            self._busy.difference_update(published, refused)

    def _take_settled(self) -> tuple[list[int], list[int]]:
        settled = self._published, self._refused
        self._published, self._refused = [], []
        return settled


def _nothing() -> None:
    """Nobody waits for the end of a row's publish."""
