"""A real RabbitMQ of one's own: free ports of 127.0.0.1, a temporary folder, ended by process id.

Debian's `rabbitmq-server` gives the programs; a broker that the machine runs is never touched.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from tests.support.ports import lasting_port

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
START_TIMEOUT = 60.0
MAJOR = 4 if list(PROGRAMS.parent.glob("lib/rabbitmq_server-4.*")) else 3
"""RabbitMQ's version: 3 or 4."""

MISSING = (
    ""
    if (PROGRAMS / "rabbitmq-server").exists() and shutil.which("epmd")
    else f"needs RabbitMQ: no {PROGRAMS}/rabbitmq-server (Debian's rabbitmq-server)"
)
"""Why there can be no broker here; "" where there can."""


def free_ports(count: int) -> list[int]:
    """`count` different ports of 127.0.0.1 that nobody listens on, nor will by chance."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(lasting_port())
    return list(ports)


class Broker:
    """One node. `settings` are lines of rabbitmq.conf (`max_message_size="16777216"`)."""

    def __init__(self, **settings: str) -> None:
        self.port, dist, epmd = free_ports(3)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self.folder = Path(tempfile.mkdtemp(prefix="fastsmtp-rabbitmq-"))
        conf = {"listeners.tcp.1": f"127.0.0.1:{self.port}", "disk_free_limit.absolute": "1MB"}
        lines = (f"{key} = {value}\n" for key, value in (conf | settings).items())
        (self.folder / "rabbitmq.conf").write_text("".join(lines))
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "env.conf").write_text("")
        self.env = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"rabbit{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(dist),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            # No busy waiting: a test machine has few processors.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none"
            " -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            # The script then becomes the broker, instead of waiting for it: one process id.
            "RUNNING_UNDER_SYSTEMD": "1",
        }
        # The node registers itself there: its own, so that it can be ended too.
        self.epmd = self.spawn("epmd", "-port", str(epmd), "-address", "127.0.0.1")
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a process that ends with us, whatever becomes of us."""
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start the node, on the same port and data as before, and wait until it takes clients."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the node and do not wait."""
        assert self.process is None
        self.process = self.spawn(str(PROGRAMS / "rabbitmq-server"))

    def wait(self) -> None:
        """Until the node speaks AMQP."""
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                output = (self.folder / "output").read_text(errors="replace")
                raise RuntimeError(f"RabbitMQ did not start:\n{output[-4000:]}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether an AMQP header gets a frame back."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
                client.sendall(b"AMQP\0\0\x09\x01")
                return client.recv(1) == b"\x01"
        except OSError:
            return False

    def stop(self) -> None:
        """End the node in order."""
        self.end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(START_TIMEOUT)
            self.process = None

    def pause(self) -> None:
        """SIGSTOP: the node keeps its connections and says nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def ctl(self, *arguments: str) -> str:
        """`rabbitmqctl --quiet …`: what it printed. Takes a second or two; raises if it failed."""
        done = subprocess.run(
            [str(PROGRAMS / "rabbitmqctl"), "--quiet", *arguments],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {arguments}: {done.stdout!r} {done.stderr!r}")
        return done.stdout.decode()

    def close(self) -> None:
        """End everything at once and remove the folder."""
        self.kill()
        self.epmd.kill()
        self.epmd.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def running(**settings: str) -> Iterator[Broker]:
    """A broker that has started; ended and removed afterwards."""
    made = Broker(**settings)
    try:
        made.start()
        yield made
    finally:
        made.close()


async def declare(url: str, queue: str, durable: bool = True, **arguments: object) -> None:
    """Make a queue; `x_max_length=2` is the argument x-max-length."""
    table = {key.replace("_", "-"): value for key, value in arguments.items()}
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=durable, arguments=table)


async def drain(url: str, queue: str) -> list[AbstractIncomingMessage]:
    """Take everything that is ready in a queue, in order."""
    taken: list[AbstractIncomingMessage] = []
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        found = await channel.get_queue(queue)
        while message := await found.get(no_ack=True, fail=False):
            taken.append(message)
    return taken
