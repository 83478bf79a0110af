"""What is sent to a server, and the process that sends it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple, Self

from bench.mail import Copy, recipients
from tests.support.daemon import ROOT


class Load(NamedTuple):
    """Sessions at the same time, and what each of them does until the time is over."""

    size: int = 2048  # octets of content
    sessions: int = 20
    recipients: int = 1  # a message
    pipelined: bool = False  # MAIL, RCPT and DATA in one write
    tls: bool = False  # STARTTLS at the beginning of each connection
    reconnect: bool = False  # a connection a message
    seconds: float = 1.0
    messages: int = 1_000_000  # at most

    def copies(self) -> set[Copy]:
        """What comes of every message."""
        return {(each, self.size) for each in recipients(self.recipients)}

    def __str__(self) -> str:
        words = [f"{self.size} octets", f"{self.sessions} sessions"]
        words += [f"{self.recipients} recipients"] * (self.recipients > 1)
        words += ["pipelined" if self.pipelined else "no pipelining"]
        words += ["STARTTLS"] * self.tls
        words += ["a connection a message" if self.reconnect else "kept alive"]
        return ", ".join(words)


class Sent(NamedTuple):
    """What the generator saw."""

    messages: int
    seconds: float  # from the first connection to the last 250
    p50: float  # seconds from the end of data to the 250
    p99: float
    worst: float
    cpu: float  # seconds of the generator's own CPU time
    queued: float  # seconds that it could have run, had a processor been free

    @classmethod
    def of(cls, latencies: Sequence[float], seconds: float, cpu: float, queued: float) -> Self:
        """From every message's latency."""
        ordered = sorted(latencies)
        p50, p99 = percentile(ordered, 0.50), percentile(ordered, 0.99)
        return cls(len(ordered), seconds, p50, p99, ordered[-1], cpu, queued)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The least value that so large a share of them does not exceed; of sorted values."""
    rank = max(0, -int(-share * len(ordered) // 1) - 1)
    return ordered[rank]


ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_TRIM_THRESHOLD_": str(16 << 20)}
"""Of the generator: uvloop's TLS asks for 256 KiB a record, and glibc gives each back to the kernel
and gets it again, unless it has learnt better; whether it does depends on the server's replies."""


def start(load: Load, port: int) -> "subprocess.Popen[bytes]":
    """The generator at work; SIGTERM ends it in order."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench.generator", json.dumps(load._asdict()), str(port)],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )


def finish(process: "subprocess.Popen[bytes]", timeout: float) -> Sent:
    """What it saw. Raises RuntimeError where a reply was not the expected one."""
    try:
        output, _ = process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    return Sent(**json.loads(output))


def send(load: Load, port: int) -> Sent:
    """The whole load, in a process of its own."""
    return finish(start(load, port), load.seconds + 60)
