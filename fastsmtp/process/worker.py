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

MakeSink = Callable[[Settings, Gate, Metrics], Sink]


def default_sink(settings: Settings, gate: Gate, metrics: Metrics) -> Sink:
    """Where the settings send the mail: to RabbitMQ, or to the embedded queue."""
    if not settings.rabbitmq_address:
        return Embedded(settings.queue_file, settings.queue_maxsize, gate)
    return RabbitMQ(settings, gate, metrics)


def run(settings: Settings, make_sink: MakeSink = default_sink) -> int:
    """Serve until SIGTERM or SIGINT; gives the exit status."""
    try:
        uvloop.run(_serve(settings, make_sink))
    except (OSError, ValueError) as error:
        log.error("%s", error)
        return 1
    return 0


async def _serve(settings: Settings, make_sink: MakeSink) -> None:
    await Worker(settings, make_sink).serve()  # made inside the loop, whose clock sinks read


class Worker:
    """Everything of one process."""

    def __init__(self, settings: Settings, make_sink: MakeSink) -> None:
        self._settings = settings
        self._gate = Gate(settings.smtp_maxsize)
        self._metrics = Metrics()
        self._sink = make_sink(settings, self._gate, self._metrics)
        composer = Composer(settings, self._gate, self._metrics)
        intake = Intake(composer, self._sink, self._metrics)
        self._listener = Listener(settings, self._gate, self._metrics, intake)
        self._stopping = asyncio.Event()

    async def serve(self) -> None:
        """Start, run until told to stop, shut down. Raises OSError or ValueError at the start."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        sockets = bind(settings.smtp_ip, settings.smtp_port)
        await self._sink.start()
        await self._listener.start(sockets)
        log.info(
            "ready: listening on %s; queue: %s; TLS: off; AUTH: off; workers: 1",
            ", ".join(place(*bound.getsockname()[:2]) for bound in sockets) or "no port",
            self._sink,
        )
        await self._stopping.wait()
        log.info("stopping: mail in flight has %g s", settings.smtp_grace)
        await self._listener.stop(settings.smtp_grace)
        await self._sink.close()
        log.info("stopped: %d messages accepted", self._metrics.messages)

    def _stop(self) -> None:
        """The first signal stops in peace, a second one at once."""
        if self._stopping.is_set():
            os._exit(1)
        self._stopping.set()
