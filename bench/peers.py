"""Other servers that do the same work: one process of each, on a free port, started and stopped.

What they are made of is under `.tools/peers/`, where `make bench-peers` puts it; their programs are
in `bench/peers/`. `discard` is a peer without a broker: it reads the content and answers 250.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from bench.load import Load
from bench.servers import Queue, wait_for_port
from tests.support.daemon import ROOT
from tests.support.rabbitmq import Broker, free_ports

PROGRAMS = ROOT / "bench" / "peers"
INSTALLED = ROOT / ".tools" / "peers"
SEMI_SPACE = "--max-semi-space-size=64"
"""Of Node.js, in MiB: what does not live long is collected less often."""


class Peer(ABC):
    """One server in a language of its own; `command` says how it is started."""

    name: str
    answers = "confirmed"
    folder: Path
    """Where it is installed; its file `versions.json` names its parts."""

    def __init__(
        self,
        broker: Broker,
        queue: str,
        *,
        tls: tuple[Path, Path] | None = None,
        discard: bool = False,
    ) -> None:
        """`tls` is a certificate and its key, for STARTTLS."""
        self.queue = Queue(broker, queue)
        self.tls = tls
        self.discard = discard
        if discard:
            self.answers = "at once, discards"

    def missing(self) -> str:
        """Why it cannot run here; "" where it can."""
        versions = self.folder / "versions.json"
        return "" if versions.exists() else f"needs `make bench-peers`: no {versions}"

    def versions(self) -> dict[str, str]:
        """Of its parts."""
        found: dict[str, str] = json.loads((self.folder / "versions.json").read_text())
        return found

    @abstractmethod
    def command(self) -> list[str | Path]:
        """The program and what it is told."""

    def environment(self) -> dict[str, str]:
        """What it finds there beside ours."""
        return {}

    def options(self) -> list[str | Path]:
        """The port, the broker, the queue and TLS, as all of our programs take them."""
        options: list[str | Path] = ["--port", str(self.port)]
        if self.discard:
            options += ["--discard"]
        else:
            options += ["--url", self.queue.url, "--queue", self.queue.queue]
        if self.tls:
            options += ["--cert", self.tls[0], "--key", self.tls[1]]
        return options

    def start(self) -> None:
        """Until it takes mail."""
        (self.port,) = free_ports(1)
        # setpriv: it ends with us, whatever becomes of us.
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self.command()],
            env=os.environ | self.environment(),
            stdout=subprocess.DEVNULL,
        )
        self.pid = self.process.pid
        wait_for_port(self.port)

    def check(self, messages: int, *loads: Load) -> None:
        """See `Server`. Who discards has nothing."""
        if not self.discard:
            self.queue.check(messages, *loads)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


class Go(Peer):
    """go-smtp and amqp091-go: peers/go/."""

    name = "go-smtp + amqp091-go"
    folder = INSTALLED / "go"

    def command(self) -> list[str | Path]:
        return [self.folder / "server", *self.options()]


class Node(Peer):
    """nodemailer's smtp-server and amqplib: peers/node/."""

    name = "smtp-server + amqplib"
    folder = INSTALLED / "node"

    def command(self) -> list[str | Path]:
        # Room for what does not live long: it is collected less often.
        return [
            "node",
            "--max-semi-space-size=64",
            PROGRAMS / "node" / "server.js",
            *self.options(),
        ]

    def environment(self) -> dict[str, str]:
        return {"NODE_PATH": str(self.folder / "node_modules")}


class Haraka(Peer):
    """Haraka with a queue plugin that waits for the confirm: peers/haraka/."""

    name = "Haraka + amqplib"
    folder = INSTALLED / "haraka"

    def start(self) -> None:
        self.home = tempfile.TemporaryDirectory(prefix="fastsmtp-haraka-")
        shutil.copytree(PROGRAMS / "haraka", self.home.name, dirs_exist_ok=True)
        super().start()

    def command(self) -> list[str | Path]:
        home = Path(self.home.name)
        # It takes its port from a file only. No nodes: one process, no cluster.
        (home / "config" / "smtp.ini").write_text(f"listen=127.0.0.1:{self.port}\nnodes=0\n")
        haraka = self.folder / "node_modules" / "Haraka" / "bin" / "haraka"
        return ["node", SEMI_SPACE, haraka, "-c", home]

    def environment(self) -> dict[str, str]:
        modules = str(self.folder / "node_modules")
        return {
            "NODE_PATH": modules,
            "PEER_URL": self.queue.url,
            "PEER_QUEUE": self.queue.queue,
        }

    def stop(self) -> None:
        super().stop()
        self.home.cleanup()


class Aiosmtpd(Peer):
    """aiosmtpd and aio-pika on uvloop: peers/aiosmtpd_peer.py."""

    name = "aiosmtpd + aio-pika, uvloop"

    def missing(self) -> str:
        found = find_spec("aiosmtpd")
        return "" if found else "needs aiosmtpd (dependency group bench of pyproject.toml)"

    def versions(self) -> dict[str, str]:
        return {"aiosmtpd": version("aiosmtpd")}

    def command(self) -> list[str | Path]:
        return [sys.executable, PROGRAMS / "aiosmtpd_peer.py", *self.options()]
