"""The process that an operator starts: sockets, generations of workers, signals.

It binds the sockets and never touches mail. A reload is a new generation of workers on the same
sockets, with the code and the configuration that are on disk now; the old one finishes what is
begun. Whatever is wrong with the new one is told, and nothing changes.
"""

import asyncio
import contextlib
import logging
import signal
from functools import partial

from setproctitle import setproctitle

from fastsmtp.background_tasks import BackgroundTasks
from fastsmtp.counters import Snapshot
from fastsmtp.net import tls
from fastsmtp.net.auth import backends
from fastsmtp.net.listener import ListenError, place
from fastsmtp.process import config, control, logs, ownership, systemd
from fastsmtp.process.config import ConfigError
from fastsmtp.process.generation import Generation, Look, Slots
from fastsmtp.process.http import Site
from fastsmtp.process.ownership import Owned
from fastsmtp.process.reading import Sources, read_again
from fastsmtp.process.sockets import Sockets
from fastsmtp.process.supervision import Supervision
from fastsmtp.process.totals import total
from fastsmtp.process.workers import WorkerError, WorkerProcess
from fastsmtp.settings import Settings
from fastsmtp.sinks import table

log = logging.getLogger(__name__)

PORT_TIMEOUT = 5.0
"""Seconds that a start waits for ports: workers whose supervisor was killed give them up."""

PORT_INTERVAL = 0.05
"""Seconds between two attempts to bind them."""

AFTER_GRACE = 15.0
"""Seconds after smtp-grace in which workers let go of broker and queue; then they are killed."""


def run(settings: Settings, sources: Sources) -> int:
    """Serve until SIGTERM or SIGINT; gives the exit status. `settings` came from `sources`."""
    setproctitle("fastsmtp: supervisor")
    return asyncio.run(Supervisor(settings, sources).serve())


class Supervisor:
    """Everything of the first process."""

    def __init__(self, settings: Settings, sources: Sources) -> None:
        self._settings = settings
        self._sources = sources
        self._sockets = Sockets()
        self._slots = Slots()
        self._generations: list[Generation] = []  # not ended; the last one accepts
        self._site = Site(self._collect)  # for whoever watches
        self._supervision = Supervision()
        self._owned: dict[str, Owned] = {}  # by path
        self._ended: Snapshot = {}  # what workers that have ended had counted
        self._changing = asyncio.Lock()  # a generation is made; sockets come and go
        self._beginning: asyncio.Task[None] | None = None  # the start of its workers
        self._stopping = asyncio.Event()
        self._now = asyncio.Event()  # stop without waiting
        self._tasks = BackgroundTasks()

    async def serve(self) -> int:
        """Start, run until told to stop, shut down; gives the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        try:
            async with self._changing:
                await self._own(self._settings)
                await self._wait_for_ports()
                await self._begin(1, self._settings, config.texts(self._settings), _no_look)
        except (OSError, WorkerError) as error:
            self._sockets.reduce(None)
            if self._stopping.is_set():
                log.info("stopped before it was ready")
                return 0
            log.error("%s", error)
            return 1
        async with control.listening(self.reload):
            self._tell_ready("ready")
            self._tasks.start(self._feed_watchdog())
            await self._stopping.wait()
        return await self._shut_down()

    async def _own(self, settings: Settings) -> None:
        """Own the spill of the settings; raises OwnedError where somebody else does."""
        path = ownership.path_of(settings)
        if path and path not in self._owned:
            self._owned[path] = await ownership.take(settings, settings.smtp_grace + AFTER_GRACE)

    def _disown(self) -> None:
        """Let go of what no generation uses."""
        used = {generation.owned for generation in self._generations}
        for path, owned in list(self._owned.items()):
            if owned not in used:
                self._owned.pop(path).close()

    async def _wait_for_ports(self) -> None:
        """Bind the sockets, or raise ListenError where somebody else keeps a port."""
        deadline = asyncio.get_running_loop().time() + PORT_TIMEOUT
        while True:
            try:
                self._sockets.extend(self._settings)
                return
            except ListenError as error:
                if not error.is_taken or asyncio.get_running_loop().time() > deadline:
                    raise
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), PORT_INTERVAL)
                raise WorkerError("fastsmtp is stopping")

    async def reload(self, force: bool = False) -> tuple[int, list[str]]:
        """Read everything anew and let new workers take over; gives exit status and words.

        Where anything is wrong nothing changes: status 2 for the configuration, else 1. `force`: an
        empty configuration file, and a broker that lets only the old workers in, are not wrong.
        """
        async with self._changing:
            systemd.reloading()
            try:
                said = await self._reload(force)
                self._supervision.reloaded(True)
                return 0, said
            except ConfigError as error:
                why, status = error.errors, 2
            except (OSError, ValueError, WorkerError) as error:
                why, status = [str(error)], 1
            finally:
                self._disown()
                if not self._stopping.is_set():
                    systemd.notify("READY=1")
            self._supervision.reloaded(False)
            for line in why:
                log.error("reload refused, nothing has changed: %s", line)
            return status, [*(f"error: {line}" for line in why), "nothing has changed"]

    async def _reload(self, force: bool) -> list[str]:
        texts, warnings = await read_again(self._sources, force)
        settings = config.from_texts(texts)
        old = self._generations[-1]
        await self._own(settings)
        look = _no_look if force else partial(_look_at_login, old)
        new = await self._begin(old.number + 1, settings, texts, look)
        self._settings = settings
        logs.setup(settings)
        await old.retire()
        self._tasks.start(self._see_off(old))
        for line in warnings:
            log.warning("%s", line)
        said = self._tell_ready(f"reloaded, generation {new.number}")
        return [*(f"warning: {line}" for line in warnings), said]

    async def _begin(
        self, number: int, settings: Settings, texts: dict[str, str], look: Look
    ) -> Generation:
        """A generation that accepts mail; raises OSError or WorkerError, and leaves nothing."""
        bound = self._sockets.extend(settings)
        owned = self._owned.get(ownership.path_of(settings))
        generation = Generation(
            number, settings, texts, bound, self._slots, self._on_worker_end, owned
        )
        try:
            async with self._site.moved(settings.metrics_address):
                if self._stopping.is_set():
                    raise WorkerError("fastsmtp is stopping")
                self._beginning = asyncio.create_task(generation.start(look))
                await self._beginning
        except asyncio.CancelledError:
            self._reduce_sockets()
            raise WorkerError("fastsmtp is stopping") from None
        except BaseException:
            self._reduce_sockets()
            raise
        self._generations.append(generation)
        return generation

    async def _see_off(self, old: Generation) -> None:
        """Wait until an old generation is gone, and for the sockets that were only its own."""
        try:
            async with asyncio.timeout(old.grace + AFTER_GRACE):
                await old.wait()
        except TimeoutError:
            log.error("workers of generation %d did not end and are killed", old.number)
            old.kill()
            await old.wait()
        self._generations.remove(old)
        self._disown()
        self._ended = total((), [self._ended, {"restarts": old.restarts}])
        async with self._changing:
            self._reduce_sockets()

    def _reduce_sockets(self) -> None:
        """Close the sockets that no setting wants, once no old worker may be accepting on them."""
        if len(self._generations) == 1:
            self._sockets.reduce(self._settings)

    async def _shut_down(self) -> int:
        generations = list(self._generations)
        grace = max(generation.grace for generation in generations)
        log.info("stopping: mail in flight has %g s", grace)
        systemd.notify("STOPPING=1")
        for generation in generations:
            generation.stop()
        ends = asyncio.create_task(_all_ended(generations))
        now = asyncio.create_task(self._now.wait())
        await asyncio.wait(
            {ends, now}, timeout=grace + AFTER_GRACE, return_when=asyncio.FIRST_COMPLETED
        )
        in_peace = ends.done()
        if not in_peace:
            why = "asked to" if self._now.is_set() else "they did not end"
            log.error("workers are killed: %s", why)
            for generation in generations:
                generation.kill()
            await ends
        now.cancel()
        self._site.close()
        self._sockets.reduce(None)
        self._tasks.cancel()
        log.info("stopped: %d messages accepted", self._ended.get("messages", 0))
        return 0 if in_peace else 1

    def _tell_ready(self, what: str) -> str:
        """The line that says how it runs, to the log and to systemd."""
        settings = self._settings
        bound = [
            (each.socket.getsockname(), each.tls_first) for each in self._sockets.extend(settings)
        ]
        where = ", ".join(place(*name[:2]) for name, _ in bound)
        tls_ports = {name[1] for name, tls_first in bound if tls_first}
        workers = self._generations[-1].workers
        worker = workers[0] if workers else None
        auth = "on" if backends.configured(settings) else "off"
        line = (
            f"{what}: listening on {where}; queue: {worker.queue if worker else 'unknown'}; "
            f"TLS: {tls.summary(settings, tls_ports)}; AUTH: {auth}; "
            f"workers: {settings.smtp_threads}"
        )
        log.info("%s", line)
        systemd.notify("READY=1", f"STATUS={line}")
        return line

    def _on_worker_end(self, worker: WorkerProcess) -> None:
        self._ended = total((), [self._ended, worker.last])

    async def _collect(self) -> Snapshot:
        """What all workers have counted, and what is true of those that answer now."""
        sink = table.chosen(self._settings)
        stored = await asyncio.to_thread(sink.snapshot, self._settings)
        await asyncio.gather(*(worker.ask() for worker in self._workers))
        workers = self._workers  # whoever has ended meanwhile is in `_ended` instead
        restarts = sum(generation.restarts for generation in self._generations)
        own = {
            "stopping": int(self._stopping.is_set()),
            "unready": (
                self._generations[-1].unready if self._generations else self._settings.smtp_threads
            ),
        }
        return total(
            [
                own,
                self._supervision.snapshot(),
                stored,
                *(worker.last for worker in workers if worker.answers),
            ],
            [
                {"restarts": restarts},
                self._ended,
                *(worker.last for worker in workers if not worker.answers),
            ],
        )

    @property
    def _workers(self) -> list[WorkerProcess]:
        return [worker for generation in self._generations for worker in generation.workers]

    async def _feed_watchdog(self) -> None:
        interval = systemd.watchdog_interval()
        while interval:
            await self._generations[-1].answer()
            systemd.notify("WATCHDOG=1")
            await asyncio.sleep(interval)

    def _on_hangup(self) -> None:
        self._tasks.start(self.reload())

    def _stop(self) -> None:
        """The first signal stops in peace, a second one at once."""
        if self._stopping.is_set():
            self._now.set()
        self._stopping.set()
        if self._beginning is not None:
            self._beginning.cancel()


async def _no_look(workers: list[WorkerProcess]) -> None:
    """Whatever they meet, they begin."""


async def _look_at_login(old: Generation, workers: list[WorkerProcess]) -> None:
    """Raise WorkerError where the broker lets none of these in, and one of `old` is connected."""
    if all(worker.refused for worker in workers):
        await asyncio.gather(*(worker.ask() for worker in old.workers))
        if any(worker.last.get("accepting") for worker in old.workers):
            raise WorkerError(
                f"{workers[0].refused}. The old workers are connected and go on. To take over "
                "nevertheless: fastsmtp reload --force"
            )


async def _all_ended(generations: list[Generation]) -> bool:
    for generation in generations:
        await generation.wait()
    return True
