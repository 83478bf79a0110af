"""One generation of workers: same settings, same code, replaced one by one when they die."""

import asyncio
import logging
import time
from collections.abc import Callable

from fastsmtp.net.places import SLOTS, Places
from fastsmtp.process.workers import Job, WorkerError, WorkerProcess

log = logging.getLogger(__name__)

FIRST_DELAY, LAST_DELAY = 0.1, 30.0
"""Seconds until a worker that died is replaced: doubled while they die young."""

YOUNG = 10.0
"""Seconds that a worker must live to be no sign of something lasting."""


class Slots:
    """Places in shared memory for every worker process, whatever its generation."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._places = Places(descriptor, 0)
        self._free = set(range(SLOTS))

    def take(self) -> int:
        """A slot with nothing in it; raises WorkerError where there are too many workers."""
        if not self._free:
            raise WorkerError(f"more than {SLOTS} workers at one time")
        slot = self._free.pop()
        self._places.clear(slot)
        return slot

    def give_back(self, slot: int) -> None:
        """Its worker has ended."""
        self._places.clear(slot)
        self._free.add(slot)


class Generation:
    """`size` workers that accept on `listening`."""

    def __init__(
        self,
        number: int,
        size: int,
        settings: dict[str, str],
        listening: list[int],
        slots: Slots,
        on_end: Callable[[WorkerProcess], None],
    ) -> None:
        """`on_end` is told each worker process that has ended."""
        self.number = number
        self.workers: list[WorkerProcess] = []  # processes that have not ended
        self.restarts = 0  # workers that died, and were replaced
        self._size = size
        self._settings = settings
        self._listening = listening
        self._slots = slots
        self._on_end = on_end
        self._retired = False
        self._keepers: list[asyncio.Task[None]] = []
        self._watchers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start all workers; returns once they accept. Raises WorkerError; none is left then."""
        try:
            started = [await self._start_worker(number) for number in range(1, self._size + 1)]
            for worker in started:
                await worker.wait_ready()
        except BaseException:
            self.kill()
            await self.wait()
            raise
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in started]

    def retire(self) -> None:
        """Others accept now: finish what is begun and end."""
        self._retired = True
        for worker in self.workers:
            worker.retire()

    def stop(self) -> None:
        """End, answering new clients meanwhile."""
        self._retired = True
        for worker in self.workers:
            worker.stop()

    def kill(self) -> None:
        """End at once."""
        self._retired = True
        for worker in self.workers:
            worker.kill()

    async def wait(self) -> None:
        """Until every process has ended."""
        for keeper in self._keepers:
            keeper.cancel()  # it may be waiting to start one more
        while self._watchers:
            await asyncio.wait(self._watchers)

    async def _start_worker(self, number: int) -> WorkerProcess:
        job = Job(
            settings=self._settings,
            listening=self._listening,
            places=self._slots.descriptor,
            slot=self._slots.take(),
            number=number,
            generation=self.number,
        )
        worker = WorkerProcess(job)
        try:
            await worker.start()
        except OSError as error:
            self._slots.give_back(job.slot)
            raise WorkerError(f"a worker cannot be started: {error}") from None
        self.workers.append(worker)
        watcher = asyncio.create_task(self._watch(worker))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return worker

    async def _watch(self, worker: WorkerProcess) -> None:
        await asyncio.wait([worker.ended])
        self.workers.remove(worker)
        self._slots.give_back(worker.job.slot)
        self._on_end(worker)

    async def _keep(self, worker: WorkerProcess) -> None:
        """Replace a worker that dies, and its replacement, until the generation is retired."""
        delay = FIRST_DELAY
        while True:
            await asyncio.wait([worker.ended])
            if self._retired:
                return
            if time.monotonic() - worker.started > YOUNG:
                delay = FIRST_DELAY
            log.error(
                "worker %d (process %d) %s; another starts in %g s",
                worker.job.number,
                worker.pid,
                worker.how_it_ended,
                delay,
            )
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_DELAY)
            self.restarts += 1
            try:
                worker = await self._start_worker(worker.job.number)
                await worker.wait_ready()
            except WorkerError as error:
                log.error("%s", error)
