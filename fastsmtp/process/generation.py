"""One generation of workers: same settings, same code, replaced one by one when they die."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from fastsmtp.background_tasks import BackgroundTasks
from fastsmtp.net import connection_counts, failures
from fastsmtp.net.connection_counts import SLOTS, ConnectionCounts
from fastsmtp.process.ownership import Owned
from fastsmtp.process.sockets import Bound
from fastsmtp.process.workers import Job, WorkerError, WorkerProcess
from fastsmtp.settings import Settings

log = logging.getLogger(__name__)

FIRST_DELAY, LAST_DELAY = 0.1, 30.0
"""Seconds until a worker that died is replaced: doubled while they die young."""

DELAY_BESIDE = 0.8
"""Seconds at most while another worker accepts mail: the settings do not kill this one."""

YOUNG = 10.0
"""Seconds that a worker must live to be no sign of something lasting."""


Look = Callable[[list[WorkerProcess]], Awaitable[None]]
"""Looks at workers that are ready; raises WorkerError where they must not begin."""


class Slots:
    """ConnectionCounts in shared memory for every worker process, whatever its generation."""

    def __init__(self) -> None:
        self.counts = connection_counts.create()  # descriptors
        self.failures = failures.create()
        self._counts = ConnectionCounts(self.counts, 0)
        self._free = set(range(SLOTS))

    def take(self) -> int:
        """A slot with nothing in it; raises WorkerError where there are too many workers."""
        if not self._free:
            raise WorkerError(f"more than {SLOTS} workers at one time")
        slot = self._free.pop()
        self._counts.clear(slot)
        return slot

    def give_back(self, slot: int) -> None:
        """Its worker has ended."""
        self._counts.clear(slot)
        self._free.add(slot)


class Generation:
    """Workers that accept on `listening`, as many as the settings want."""

    def __init__(
        self,
        number: int,
        settings: Settings,
        texts: dict[str, str],
        listening: list[Bound],
        slots: Slots,
        on_end: Callable[[WorkerProcess], None],
        owned: Owned | None = None,
    ) -> None:
        """`texts` are the settings as its workers get them; `owned` what they use of ours.

        `on_end` is told each worker process that has ended.
        """
        self.number = number
        self.grace = settings.smtp_grace
        self.workers: list[WorkerProcess] = []  # processes that have not ended
        self.restarts = 0  # workers that died, and were replaced
        self._size = settings.smtp_threads
        self._texts = texts
        self._listening = listening
        self._slots = slots
        self._on_end = on_end
        self.owned = owned
        self._ending = asyncio.Event()
        self._tasks = BackgroundTasks()

    @property
    def unready(self) -> int:
        """Workers that have not been ready for mail since they were started."""
        return self._size - sum(worker.was_ready for worker in self.workers)

    async def start(self, look: Look) -> None:
        """Start all workers; none accepts before all can, and `look` has seen them.

        Raises WorkerError; none is left then.
        """
        try:
            started = [await self._start_worker(number) for number in range(1, self._size + 1)]
            for worker in started:
                await worker.wait_ready()
            await look(started)
        except BaseException:
            self.kill()
            await self.wait()
            raise
        for worker in started:
            worker.accept()
            self._tasks.start(self._keep(worker))

    async def retire(self) -> None:
        """Others accept now: finish what is begun and end. Returns when no client comes here."""
        self._ending.set()
        for worker in self.workers:
            worker.retire()
        await asyncio.gather(*(worker.ask() for worker in self.workers))

    def stop(self) -> None:
        """End, answering new clients meanwhile."""
        self._ending.set()
        for worker in self.workers:
            worker.stop()

    def kill(self) -> None:
        """End at once."""
        self._ending.set()
        for worker in self.workers:
            worker.kill()

    async def wait(self) -> None:
        """Until every process has ended, once they were told to."""
        await self._tasks.wait()

    async def answer(self) -> None:
        """Until every worker that accepts mail has answered, or ended."""
        await asyncio.gather(*(worker.ask(None) for worker in self.workers if worker.accepting))

    async def _start_worker(self, number: int) -> WorkerProcess:
        job = Job(
            settings=self._texts,
            listening=[bound.socket.fileno() for bound in self._listening],
            tls_first=[bound.tls_first for bound in self._listening],
            counts=self._slots.counts,
            failures=self._slots.failures,
            slot=self._slots.take(),
            number=number,
            generation=self.number,
            owned=[] if self.owned is None else [self.owned.fileno()],
        )
        worker = WorkerProcess(job)
        try:
            await worker.start()
        except BaseException as error:
            self._slots.give_back(job.slot)
            if isinstance(error, OSError):
                raise WorkerError(f"a worker cannot be started: {error}") from None
            raise
        self.workers.append(worker)
        self._tasks.start(self._watch(worker))
        return worker

    async def _watch(self, worker: WorkerProcess) -> None:
        await asyncio.wait([worker.ended])
        self.workers.remove(worker)
        self._slots.give_back(worker.job.slot)
        self._on_end(worker)

    async def _keep(self, worker: WorkerProcess) -> None:
        """Replace a worker that dies, and its replacement, until the generation ends."""
        delay = FIRST_DELAY
        while True:
            since = time.monotonic()
            await asyncio.wait([worker.ended])
            if time.monotonic() - since > YOUNG:
                delay = FIRST_DELAY
            if self._ending.is_set():
                return
            name = f"worker {worker.job.number}"
            was = f"{name} (process {worker.pid}) {worker.how_it_ended}"
            if any(other.accepting for other in self.workers):
                delay = min(delay, DELAY_BESIDE)
            log.error("%s; another starts in %g s", was, delay)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), delay)
                return
            delay = min(2 * delay, LAST_DELAY)
            self.restarts += 1
            try:
                worker = await self._start_worker(worker.job.number)
                if self._ending.is_set():
                    worker.kill()
                await worker.wait_ready()
            except WorkerError as error:
                if not self._ending.is_set():
                    log.error("%s: %s", name, error)
                worker.kill()
            else:
                worker.accept()
                log.info("%s is process %d now", name, worker.pid)
