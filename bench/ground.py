"""What the contenders of a run stand on: a folder, brokers, a certificate, made when asked."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.measure import processors
from tests.support import certificates
from tests.support.rabbitmq import Broker


class Ground:
    """Lives as long as one run of the suite; `stack` ends what it made."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.folder = Path(stack.enter_context(TemporaryDirectory(prefix="fastsmtp-bench-")))
        self.notes: list[str] = []  # who could not take part, and why
        self.versions: dict[str, str] = {}  # of those who could

    def note(self, text: str) -> None:
        """Once."""
        if text not in self.notes:
            self.notes.append(text)

    @cached_property
    def broker(self) -> Broker:
        """Free to use every processor."""
        return self.started(Broker())

    @cached_property
    def pinned_broker(self) -> Broker:
        """On the last processor alone, with one scheduler."""
        broker = Broker()
        broker.env["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] += " +S 1:1"
        with pinned_to(sorted(os.sched_getaffinity(0))[-1]):
            return self.started(broker)

    def started(self, broker: Broker) -> Broker:
        self.stack.callback(broker.close)
        broker.start()
        return broker

    @cached_property
    def certificate(self) -> certificates.Files:
        """An elliptic curve's, P-256, as most are today."""
        return certificates.make(self.folder)


@contextmanager
def pinned_to(processor: int) -> Iterator[None]:
    """What is started here runs on this processor alone; anywhere where there is only one."""
    before = os.sched_getaffinity(0)
    if processors() > 1:
        os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
