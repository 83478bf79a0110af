"""The servers side by side: each is started on a free port, checked and stopped by us."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any, Protocol

import aio_pika

from bench.load import CONTENT, RECIPIENT, SENDER
from tests.support import postfix
from tests.support.daemon import ROOT, Daemon
from tests.support.rabbitmq import Broker, free_ports


class Server(Protocol):
    """One server under load."""

    name: str
    answers: str  # when it says 250
    port: int
    pid: int

    def start(self) -> None:
        """Until it takes mail."""

    def check(self, messages: int) -> None:
        """Fails unless exactly so many messages came since the last check, as they were sent."""

    def stop(self) -> None:
        """End it."""


def judge(body: bytes) -> None:
    """The JSON of one message, compared byte for byte with what was sent."""
    message: dict[str, Any] = json.loads(body)
    assert message["envelope"] == SENDER, message
    assert message["recipient"] == RECIPIENT, message
    assert message["mime"].encode() == CONTENT, message


class SmtpSink:
    """Postfix's smtp-sink: C, one process, reads and forgets."""

    name = "smtp-sink"
    answers = "at once, discards"

    def start(self) -> None:
        (self.port,) = free_ports(1)
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self.process = subprocess.Popen(
            [postfix.SMTP_SINK, *user, f"127.0.0.1:{self.port}", "1024"], env=postfix.ENV
        )
        self.pid = self.process.pid
        wait_for_port(self.port)

    def check(self, messages: int) -> None:
        """It keeps nothing that could be checked: smtp-source saw every 250."""

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class Discarding:
    """fastsmtp with the sink of discard.py in place of RabbitMQ."""

    name = "fastsmtp, discarding sink"
    answers = "encoded, discards"

    def __init__(self, folder: Path) -> None:
        self.result = folder / "discarded.json"
        command = (sys.executable, str(ROOT / "bench" / "discard.py"), str(self.result))
        self.daemon = Daemon(folder, command)
        self.messages = 0

    def start(self) -> None:
        self.daemon.start()
        assert self.daemon.process is not None
        self.port, self.pid = self.daemon.port, self.daemon.process.pid

    def check(self, messages: int) -> None:
        """It tells at its end."""
        self.messages += messages

    def stop(self) -> None:
        self.daemon.stop()
        result = json.loads(self.result.read_text())
        judge(result["last"].encode())
        content = result["last"][result["last"].index('"mime":') :].encode()
        assert result["contents"] == {str(zlib.crc32(content)): self.messages}, result


class Queue:
    """A server's queue on the broker."""

    def __init__(self, broker: Broker, name: str) -> None:
        self.url = broker.url
        self.queue = name

    def check(self, messages: int) -> None:
        """The queue has so many; the first is compared; then it is emptied."""
        asyncio.run(self.count(messages))

    async def count(self, messages: int) -> None:
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(self.queue, passive=True)
            found = queue.declaration_result.message_count
            assert found == messages, f"{self.queue}: {found} messages for {messages} sent"
            message = await queue.get(no_ack=True)
            judge(message.body)
            await queue.purge()


class Fastsmtp(Queue):
    """fastsmtp as it is."""

    name = "fastsmtp"
    answers = "confirmed"

    def __init__(self, broker: Broker, folder: Path) -> None:
        super().__init__(broker, "fastsmtp")
        self.daemon = Daemon(folder, rabbitmq_address=self.url, rabbitmq_inbox=self.queue)

    def start(self) -> None:
        self.daemon.start()
        assert self.daemon.process is not None
        self.port, self.pid = self.daemon.port, self.daemon.process.pid

    def stop(self) -> None:
        self.daemon.stop()


class Aiosmtpd(Queue):
    """aiosmtpd and aio-pika on uvloop: peer_aiosmtpd.py."""

    name = "aiosmtpd + aio-pika, uvloop"
    answers = "confirmed"

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker, "aiosmtpd")

    def start(self) -> None:
        (self.port,) = free_ports(1)
        peer = ROOT / "bench" / "peer_aiosmtpd.py"
        self.process = subprocess.Popen(
            [sys.executable, str(peer), str(self.port), self.url, self.queue]
        )
        self.pid = self.process.pid
        wait_for_port(self.port)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


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
