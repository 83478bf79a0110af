"""One worker, put together: startup, run, shutdown."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable

import uvloop

from fastsmtp.gate import Gate
from fastsmtp.metrics import Metrics
from fastsmtp.net.intake import Intake
from fastsmtp.net.listener import Listener, bind, place
from fastsmtp.payload import Composer
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Sink
from fastsmtp.sinks.embedded import Embedded
from fastsmtp.sinks.rabbitmq.sink import RabbitMQ

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 5.0
"""Seconds that a sink has to close once all sessions have ended."""

MakeSink = Callable[[Settings, Gate, Metrics], Sink]


def default_sink(settings: Settings, gate: Gate, metrics: Metrics) -> Sink:
    """Where the settings send the mail: to RabbitMQ, or to the embedded queue."""
    if not settings.rabbitmq_address:
        return Embedded(settings.queue_file, settings.queue_maxsize, gate, metrics)
    return RabbitMQ(settings, gate, metrics)


def run(settings: Settings, make_sink: MakeSink = default_sink) -> int:
    """Serve until SIGTERM or SIGINT; gives the exit status."""
    return uvloop.run(_serve(settings, make_sink))


async def _serve(settings: Settings, make_sink: MakeSink) -> int:
    try:
        worker = Worker(settings, make_sink)  # inside the loop, whose clock sinks read
        await worker.start()
    except (OSError, ValueError) as error:
        log.error("%s", error)
        return 1
    await worker.run()
    await worker.stop()
    return 0


class Worker:
    """Everything of one process."""

    def __init__(self, settings: Settings, make_sink: MakeSink) -> None:
        """Raises OSError or ValueError where the settings can never work."""
        self._settings = settings
        self._gate = Gate(settings.smtp_maxsize)
        self._metrics = Metrics()
        self._sink = make_sink(settings, self._gate, self._metrics)
        composer = Composer(settings, self._gate, self._metrics)
        intake = Intake(composer, self._sink, self._metrics)
        self._listener = Listener(settings, self._gate, self._metrics, intake)
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Begin to accept mail. Raises OSError or ValueError, whose text says what to change."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        sockets = bind(settings.smtp_ip, settings.smtp_port)
        await self._sink.start()
        await self._listener.start(sockets)
        log.info(
            "ready: listening on %s; queue: %s; TLS: off; AUTH: off; workers: 1",
            ", ".join(place(*bound.getsockname()[:2]) for bound in sockets) or "no port",
            self._sink,
        )

    async def run(self) -> None:
        """Until a signal says to stop."""
        await self._stopping.wait()

    async def stop(self) -> None:
        """Give mail in flight its time, then leave within a few seconds."""
        log.info("stopping: mail in flight has %g s", self._settings.smtp_grace)
        await self._listener.stop(self._settings.smtp_grace)
        closing = asyncio.ensure_future(self._sink.close())
        await asyncio.wait([closing], timeout=CLOSE_TIMEOUT)
        if not closing.done():
            # Everyone who waited was told 421 by now: what the sink still holds is sent again.
            log.warning("stopped: %s did not close within %g s", self._sink, CLOSE_TIMEOUT)
            os._exit(0)
        closing.result()
        log.info("stopped: %d messages accepted", self._metrics.messages)

    def _on_signal(self) -> None:
        """The first signal stops in peace, a second one at once."""
        if self._stopping.is_set():
            os._exit(1)
        self._stopping.set()
