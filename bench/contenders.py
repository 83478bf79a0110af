"""Who takes part in a round: a server under a load, the broker alone, the disk alone.

Each is started, does the same kind of round again and again, checks what it did, and is stopped.
A round gives figures by name: see figures.py.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from bench.figures import Figures
from bench.load import Load, Sent, send
from bench.measure import cpu_seconds, forget_peak, peak
from bench.servers import Queue, Server
from tests.support.daemon import ROOT
from tests.support.rabbitmq import Broker, declare


class Contender(Protocol):
    """One row of a table."""

    name: str
    answers: str  # when it says 250; or what else it does

    def start(self) -> None:
        """Until a round can begin."""

    def round(self, seconds: float) -> Figures:
        """Work for so long and check what came of it; AssertionError where it is wrong."""

    def stop(self) -> None:
        """End it, and check what is known only then."""


class Smtp:
    """A server under a load."""

    def __init__(self, server: Server, load: Load, name: str = "") -> None:
        self.server = server
        self.load = load
        self.name = name or server.name
        self.answers = server.answers

    def start(self) -> None:
        self.server.start()

    def round(self, seconds: float) -> Figures:
        """CPU is a recipient's where there are several."""
        pid = self.server.pid
        forget_peak(pid)
        cpu = cpu_seconds(pid)
        sent = send(self.load._replace(seconds=seconds), self.server.port)
        cpu = cpu_seconds(pid) - cpu
        highest = peak(pid)
        deliveries = sent.messages * self.load.recipients
        self.server.check(deliveries, self.load)
        return {"cpu": cpu / deliveries * 1e6} | seen(sent) | {"peak": highest / (1 << 20)}

    def stop(self) -> None:
        self.server.stop()


class BrokerAlone:
    """The ceiling: what the broker confirms of pre-encoded frames of the same size."""

    answers = "nothing but publishes"

    def __init__(
        self,
        broker: Broker,
        queue: str,
        size: int,
        window: int,
        kind: str = "",
        **arguments: object,
    ) -> None:
        self.broker = broker
        self.size = size
        self.window = window
        self.queue = Queue(broker, queue)
        self.arguments = arguments  # of the queue
        self.name = self.title(window) + kind

    @staticmethod
    def title(window: int) -> str:
        """Its name, for a number of publishes in flight."""
        return f"the broker alone, {window} in flight"

    def start(self) -> None:
        asyncio.run(declare(self.broker.url, self.queue.queue, True, **self.arguments))

    def round(self, seconds: float) -> Figures:
        words = (self.broker.port, self.queue.queue, self.size, self.window, seconds)
        done = subprocess.run(
            [sys.executable, "-m", "bench.confirms", *map(str, words)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
            timeout=seconds + 60,
        )
        sent = Sent(**json.loads(done.stdout))
        self.queue.check(sent.messages, Load(self.size))
        figures = seen(sent)
        if self.window > 1:  # its latencies are not those of single messages
            del figures["p50"], figures["p99"]
        return figures

    def stop(self) -> None:
        """There is no process."""


class Disk:
    """How often a second the disk makes one small write durable."""

    name = "the disk alone"
    answers = "fdatasync after 4 KiB"

    def __init__(self, folder: Path) -> None:
        self.file = folder / "synced"

    def start(self) -> None:
        self.descriptor = os.open(self.file, os.O_CREAT | os.O_WRONLY)

    def round(self, seconds: float) -> Figures:
        count, began = 0, time.monotonic()
        block = bytes(4096)
        while (took := time.monotonic() - began) < seconds:
            os.pwrite(self.descriptor, block, count % 1024 * 4096)
            os.fdatasync(self.descriptor)
            count += 1
        return {"syncs": count / took}

    def stop(self) -> None:
        os.close(self.descriptor)
        self.file.unlink()


def seen(sent: Sent) -> Figures:
    """What the load generator saw, and its own share of a processor."""
    return {
        "rate": sent.messages / sent.seconds,
        "p50": sent.p50 * 1e3,
        "p99": sent.p99 * 1e3,
        "load": sent.cpu / sent.seconds * 100,
        "queued": sent.queued / sent.seconds * 100,
    }
