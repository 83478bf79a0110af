"""The least work that confirmed mail can cost (peers/bare/), as a server among the others."""

import asyncio
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from bench.confirms import Link, publish
from bench.load import Load
from bench.mail import recipients
from bench.servers import Queue
from tests.support.daemon import ROOT
from tests.support.rabbitmq import Broker, declare

SOURCE = ROOT / "bench" / "peers" / "bare" / "bare.c"


class Bare(Queue):
    """A C program with the same system calls and next to nothing between them."""

    name = "the least, in C"
    answers = "confirmed"

    def __init__(self, broker: Broker, queue: str, load: Load, **arguments: object) -> None:
        """It publishes what `load` sends, encoded before; `arguments` are the queue's."""
        super().__init__(broker, queue)
        self.broker = broker
        self.load = load
        self.arguments = arguments

    @staticmethod
    def missing() -> str:
        """Why it cannot run here; "" where it can."""
        return "" if shutil.which("cc") else "needs a C compiler: no cc"

    def start(self) -> None:
        """Compile it and let it take mail."""
        asyncio.run(declare(self.url, self.queue, True, **self.arguments))
        self.folder = tempfile.TemporaryDirectory(prefix="fastsmtp-bare-")
        program, frames = Path(self.folder.name, "bare"), Path(self.folder.name, "publishes")
        subprocess.run(["cc", "-O2", "-o", program, SOURCE], check=True)
        made = [
            publish(self.queue, self.load.size, each) for each in recipients(self.load.recipients)
        ]
        assert len({len(each) for each in made}) == 1, "publishes of several lengths"
        frames.write_bytes(b"".join(made))
        link = Link(self.broker.port)
        with link.socket, socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            self.port = listening.getsockname()[1]
            passed = (listening.fileno(), link.socket.fileno())
            self.process = subprocess.Popen(
                # setpriv: it ends with us, whatever becomes of us.
                [
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    program,
                    *map(str, passed),
                    str(len(made)),
                    frames,
                ],
                pass_fds=passed,
            )
        self.pid = self.process.pid

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()
