"""The servers under load: each is started on a free port, checked and stopped by us."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import aio_pika

from bench.load import Load
from bench.mail import Copy, judge
from fastsmtp.sinks.store import Store
from tests.support import postfix
from tests.support.daemon import COMMAND, ROOT, Daemon
from tests.support.rabbitmq import Broker, free_ports

FIND_TIMEOUT = 60
"""Seconds in which what is looked for in a queue must turn up."""


class Server(Protocol):
    """One server under load."""

    name: str
    answers: str  # when it says 250
    port: int
    pid: int

    def start(self) -> None:
        """Until it takes mail."""

    def check(self, messages: int, *loads: Load) -> None:
        """Fails unless exactly so many came since the last check, one a recipient.

        Of each of these loads at least one copy for each recipient is compared with what was sent.
        """

    def stop(self) -> None:
        """End it."""


class SmtpSink:
    """Postfix's smtp-sink: C, one process, reads and forgets."""

    name = "smtp-sink"
    answers = "at once, discards"

    def start(self) -> None:
        (self.port,) = free_ports(1)
        user = []
        if os.geteuid() == 0:
            user = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
        self.process = subprocess.Popen(
            [
                # It ends with us, whatever becomes of us; set where it has become that user.
                *("setpriv", "--pdeathsig", "KILL", *user, postfix.SMTP_SINK),
                *(f"127.0.0.1:{self.port}", "1024"),
            ],
            env=postfix.ENV,
        )
        self.pid = self.process.pid
        wait_for_port(self.port)

    def check(self, messages: int, *loads: Load) -> None:
        """It keeps nothing that could be checked: the load generator saw every 250."""

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class OwnDaemon:
    """fastsmtp, in a folder of its own."""

    def __init__(self, folder: Path, command: Sequence[str] = COMMAND, **settings: object) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="daemon-", dir=folder))
        self.daemon = Daemon(self.folder, command, **settings)

    def start(self) -> None:
        self.daemon.start()
        assert self.daemon.process is not None
        self.port, self.pid = self.daemon.port, self.daemon.process.pid

    def stop(self) -> None:
        self.daemon.stop()


class Discarding(OwnDaemon):
    """fastsmtp with the sink of discard.py in place of RabbitMQ."""

    name = "fastsmtp, discarding sink"
    answers = "encoded, discards"

    def __init__(self, folder: Path, tree: Path = ROOT) -> None:
        """`tree` is the one whose discard.py runs: a sink's contract changes."""
        self.result = folder / f"discarded-{id(self)}.json"
        super().__init__(
            folder, (sys.executable, str(tree / "bench" / "discard.py"), str(self.result))
        )
        self.messages = 0

    def check(self, messages: int, *loads: Load) -> None:
        """It tells at its end."""
        self.messages += messages

    def stop(self) -> None:
        super().stop()
        result = json.loads(self.result.read_text())
        judge(result["last"].encode())
        assert (result["equal"], result["other"]) == (self.messages, 0), result


class Queue:
    """A server's queue on the broker."""

    def __init__(self, broker: Broker, queue: str) -> None:
        self.url = broker.url
        self.queue = queue

    def check(self, messages: int, *loads: Load) -> None:
        """The queue has so many, and a copy of every kind; then it is emptied."""
        asyncio.run(self.count(messages, set[Copy]().union(*(each.copies() for each in loads))))

    async def count(self, messages: int, copies: set[Copy]) -> None:
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(self.queue, passive=True)
            found = queue.declaration_result.message_count
            assert found == messages, f"{self.queue}: {found} messages for {messages} sent"
            if messages:
                await find(queue, copies)
                await queue.purge()


async def find(queue: aio_pika.abc.AbstractQueue, copies: set[Copy]) -> None:
    """Take messages off the queue, compare each with what was sent, until these were among them."""
    found = asyncio.get_running_loop().create_future()

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        if found.done():
            return
        try:
            copies.discard(judge(message.body))
            if not copies:
                found.set_result(None)
        except Exception as error:
            found.set_exception(error)

    await queue.consume(take, no_ack=True)
    try:
        await asyncio.wait_for(found, FIND_TIMEOUT)
    except TimeoutError:
        raise AssertionError(f"{queue.name}: no {copies} there") from None


class Fastsmtp(OwnDaemon, Queue):
    """fastsmtp as it is."""

    name = "fastsmtp"
    answers = "confirmed"

    def __init__(self, broker: Broker, queue: str, folder: Path, **settings: object) -> None:
        Queue.__init__(self, broker, queue)
        OwnDaemon.__init__(
            self, folder, COMMAND, rabbitmq_address=self.url, rabbitmq_inbox=queue, **settings
        )


class Embedded(OwnDaemon):
    """fastsmtp with its embedded queue."""

    name = "fastsmtp, embedded queue"
    answers = "on the disk"

    def check(self, messages: int, *loads: Load) -> None:
        """The file has so many; the first is compared; then it is emptied."""
        store = Store(str(self.daemon.settings["queue_file"]))
        try:
            found = store.count()
            assert found == messages, f"{found} messages for {messages} sent"
            ((_, first),) = store.after(0, 1, 1)
            judge(bytes(first))
            store.purge()
        finally:
            store.close()


def wait_for_port(port: int) -> None:
    """Until somebody accepts connections there."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
