"""One worker process, put together: startup, run, shutdown.

Executed by the supervisor, which tells it its job on standard input (see workers.Job) and then
talks to it over a socket pair. It never binds a port and never reads a configuration file.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module

import uvloop
from setproctitle import setproctitle

from fastsmtp.availability import Availability
from fastsmtp.counters import Snapshot
from fastsmtp.metrics import Metrics
from fastsmtp.net import tls
from fastsmtp.net.answerer import Parts
from fastsmtp.net.answerers import configured
from fastsmtp.net.auth import backends
from fastsmtp.net.connection_counts import ConnectionCounts
from fastsmtp.net.failures import Failures
from fastsmtp.net.listener import Listener
from fastsmtp.net.received_log import ReceivedLog
from fastsmtp.net.refusal_log import RefusalLog
from fastsmtp.payload import Composer
from fastsmtp.process import config, json_lines, logs, privileges
from fastsmtp.process.sockets import Bound
from fastsmtp.process.usage import usage
from fastsmtp.process.workers import BLOCKED, Job
from fastsmtp.refusals import Refusals
from fastsmtp.settings import Settings
from fastsmtp.sinks import table
from fastsmtp.sinks.base import Sink

log = logging.getLogger(__name__)

YOUNG_OBJECTS = 20_000
"""Objects after which the garbage collector looks for cycles; mail on its way has none."""

CLOSE_TIMEOUT = 5.0
"""Seconds that the sink has to let go, once nobody waits for its answers any more."""

MakeSink = Callable[[Settings, Availability, Metrics, int], Sink]


def main(make_sink: MakeSink = table.make) -> int:
    """Take the job from standard input and do it; gives the exit status."""
    # A terminal, or systemd, may send these to the supervisor and to us: what ends us is its word
    # or SIGTERM, and until `start` can take that, workers.BLOCKED are blocked.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    job = Job.from_json(sys.stdin.read())
    setproctitle(f"fastsmtp: worker {job.number}, generation {job.generation}")
    settings = config.from_texts(job.settings)
    logs.setup(settings, job.number)
    sys.unraisablehook = logs.ignored
    return uvloop.run(_work(job, settings, make_sink))


async def _work(job: Job, settings: Settings, make_sink: MakeSink) -> int:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=job.control))

    def tell(**message: object) -> None:
        writer.write(json_lines.line(message))

    try:
        _import_late(settings)
        privileges.become(settings)
        counts, failures = ConnectionCounts(job.counts, job.slot), Failures(job.failures, job.slot)
        own = partial(usage, f"worker-{job.number}", job.generation)
        worker = Worker(settings, make_sink, counts, failures, own, job.number - 1)
        await worker.start()
        # What is there now stays: the collector looks at what came since, and not for every batch.
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
    except (OSError, ValueError) as error:
        tell(failed=str(error))
        await _hang_up(writer)
        return 1
    availability = worker.availability
    tell(ready=str(worker.sink), refused=availability.trouble if availability.is_refused else "")
    listening = asyncio.create_task(_listen(reader, worker, tell))
    await worker.run(
        [
            Bound(socket.socket(fileno=number), tls_first)
            for number, tls_first in zip(job.listening, job.tls_first, strict=True)
        ]
    )
    await worker.stop()
    tell(snapshot=worker.snapshot())
    listening.cancel()
    await _hang_up(writer)
    return 0


def _import_late(settings: Settings) -> None:
    """See `Choice.late`, `Backend.late` and `tls.LATE`."""
    modules = list(table.chosen(settings).late)
    if settings.smtp_certificate:
        modules += tls.LATE
    for backend in backends.configured(settings):
        modules += backend.late
    for module in modules:
        import_module(module)


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Let all that was told leave, as `drain` does not; then say no more."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _listen(
    reader: asyncio.StreamReader, worker: "Worker", tell: Callable[..., None]
) -> None:
    """Do what the supervisor says; without one there is nothing to stay for."""
    async for message in json_lines.messages(reader):
        if "snapshot" in message:
            tell(snapshot=worker.snapshot())
        elif "accept" in message:
            await worker.accept()
        elif "retire" in message:
            worker.retire()
    if not worker.is_stopping:
        log.error("the supervisor is gone: this worker ends when its mail is done")
        worker.retire()


class Worker:
    """Everything of one process; made inside the event loop, whose clock sinks read."""

    def __init__(
        self,
        settings: Settings,
        make_sink: MakeSink,
        counts: ConnectionCounts,
        failures: Failures,
        usage: Callable[[], Snapshot],
        number: int = 0,
    ) -> None:
        """Raises OSError or ValueError where the settings can never work.

        `number` counts the workers of a generation from 0.
        """
        self.metrics = Metrics()
        self.availability = Availability(settings.smtp_maxsize, settings.smtp_maxmemory)
        self.sink = make_sink(settings, self.availability, self.metrics, number)
        self._settings = settings
        self._usage = usage  # of this process
        self._received_log = (
            ReceivedLog(settings.received_log, settings.log_format)
            if settings.received_log
            else None
        )
        self._refusal_log = RefusalLog()
        readers = [self.metrics.refused, self._refusal_log.refused]
        if self._received_log is not None:
            readers.append(self._received_log.refused)
        refusals = Refusals(readers)
        parts = Parts(
            settings=settings,
            availability=self.availability,
            metrics=self.metrics,
            refusals=refusals,
            composer=Composer(settings, self.availability, self.metrics),
            sink=self.sink,
            failures=failures,
            received_log=self._received_log,
        )
        answerers = configured(parts)
        self.listener = Listener(
            settings, self.availability, self.metrics, refusals, answerers, counts
        )
        self._is_retired = False  # others take its place
        self._told = asyncio.Event()  # to accept, or to end
        self._began = asyncio.Event()  # `run` has done the one or the other
        self._stopping = asyncio.Event()

    @property
    def is_stopping(self) -> bool:
        """It was told to end."""
        return self._stopping.is_set()

    def snapshot(self) -> Snapshot:
        """What it has counted; one that ends takes no new mail, and its failures are past."""
        snapshot = self.metrics.snapshot(self.availability) | self._usage()
        snapshot["certificate_ends"] = self.listener.certificate_ends
        if not self._began.is_set():
            snapshot |= {"accepting": 0, "trouble": {"the ports are not open yet": 1}}
        if not self.is_stopping:
            return snapshot
        ending = {"accepting": 0, "trouble": {"the worker is stopping": 1}, "failures": {}}
        return snapshot | ending

    async def start(self) -> None:
        """Have everything that mail needs. Raises OSError or ValueError: what to change."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end)
        await self.sink.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)

    async def accept(self) -> None:
        """All workers of the generation are ready: let `run` open the ports."""
        self._told.set()
        await self._began.wait()

    def retire(self) -> None:
        """End; new clients are others' from now on."""
        self._is_retired = True
        self.listener.close()
        self._end()

    def _end(self) -> None:
        self._stopping.set()
        self._told.set()

    async def run(self, sockets: list[Bound]) -> None:
        """Accept mail on `sockets` once it is told to, until it is told to end."""
        await self._told.wait()
        if not self.is_stopping:
            await self.listener.start(
                [bound.socket for bound in sockets if not bound.tls_first],
                [bound.socket for bound in sockets if bound.tls_first],
            )
        self._began.set()
        await self._stopping.wait()

    async def stop(self) -> None:
        """Give mail in flight its time, then leave within a few seconds."""
        end = time.monotonic() + self._settings.smtp_grace
        await self.listener.stop(self._settings.smtp_grace)
        self._refusal_log.close()
        if self._received_log is not None:
            self._received_log.flush()
        left = 0.0 if self._is_retired else max(0.0, end - time.monotonic())
        closing = asyncio.ensure_future(self.sink.close(left))
        await asyncio.wait([closing], timeout=left + CLOSE_TIMEOUT)
        if not closing.done():
            # Everyone who waited was told 421 by now: what the sink still holds is sent again.
            log.warning("%s did not close within %g s", self.sink, CLOSE_TIMEOUT)
            os._exit(0)
        closing.result()
        if self._received_log is not None:
            self._received_log.close()


if __name__ == "__main__":
    sys.exit(main())
