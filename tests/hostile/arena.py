"""One attack on one daemon: what it is started with, how it went, whether it kept its bounds.

An attack is a function that takes an `Arena`, does its worst and says in a few words what it heard.
`Arena.measure` runs it while bystanders send small mail and a watch is kept on the worker.
"""

import asyncio
import itertools
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import aio_pika

from tests.support import certificates
from tests.support.bystanders import Bystanders, Seen
from tests.support.daemon import Daemon
from tests.support.rabbitmq import Broker
from tests.support.resident import MB, Watch, resident
from tests.support.wire import Reply, Wire

STEP = 0.05
"""Seconds of CPU that one step of the event loop may take."""

PATIENCE = 100.0
"""Seconds that an attacker waits for a reply: longer than the server may let it wait."""

_names = itertools.count()


@dataclass(frozen=True)
class Attack:
    """What is done, to what, and what was seen of it before anything was mended."""

    name: str
    run: Callable[["Arena"], str]  # what it gives is what it heard
    seen: str = ""  # the figure that was reported
    broker: str = ""  # "": the embedded queue; "well", or what it becomes at `Arena.trouble`
    settings: dict[str, object] = field(default_factory=dict)
    others: float = 0.95  # the share of others' small mail that has to be accepted
    alone: bool = False  # there is nobody else
    tls: bool = False  # the daemon has a certificate, and a TLS port
    holds: bool = False  # all bounds hold: `make test` says so


@dataclass(frozen=True)
class Result:
    """What came of it; sizes are bytes."""

    attack: Attack
    heard: str
    idle: int  # that the worker took before
    peak: int  # that it took at most
    bound: int  # that it may take
    after: int  # that it took when everybody had left
    killed: bool  # it was ended before the machine suffered
    seen: Seen

    @property
    def complaints(self) -> list[str]:
        """The bounds that did not hold."""
        found = []
        if self.killed or self.peak > self.bound:
            found.append("memory")
        if self.seen.longest_step > STEP:
            found.append("step")
        if self.seen.sent and self.seen.accepted < self.attack.others:
            found.append("others")
        return found


class Arena:
    """Use as a context manager: a daemon of its own, to be attacked once."""

    def __init__(
        self, attack: Attack, broker: Broker | None, memory: int = 256, seconds: float = 30
    ) -> None:
        """`broker` is for attacks that want one; `memory` is smtp-maxmemory in MB.

        Attacks that end when they are told to last `seconds`.
        """
        self.attack = attack
        self.broker = broker if attack.broker else None
        self.memory = memory * MB
        self.unit = self.memory // 256  # bytes of which a large message has 55: mostly 1 MB
        self.maxsize = 60 * self.unit
        self.seconds = seconds
        self.senders = 8  # bystanders that send mail
        self.clients: list[Wire] = []
        self.troubled = False
        self.queue = f"hostile{next(_names)}"

    def __enter__(self) -> Self:
        self.folder = tempfile.TemporaryDirectory(prefix="fastsmtp-hostile-")
        settings: dict[str, object] = {
            "smtp_maxmemory": self.memory,
            "smtp_maxsize": self.maxsize,
            "rabbitmq_timeout": self.seconds,
        }
        if self.broker is not None:
            settings |= {
                "rabbitmq_address": self.broker.url,
                "rabbitmq_inbox": self.queue,
                "rabbitmq_lazy": "true",
            }
        folder = Path(self.folder.name)
        if self.attack.tls:
            settings |= {"smtp_secure_port": 0, **certificates.make(folder).settings}
        self.daemon = Daemon(folder, **settings | self.attack.settings)
        try:
            self.daemon.start()
            (self.worker,) = self.daemon.workers
            # What is imported and made for the first mail is no attack's.
            assert self.client().mail(b"Subject: hello\r\n\r\nHello\r\n").code == 250
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.hang_up()
        self.daemon.kill()
        if self.broker is not None:
            self.comfort()
            asyncio.run(_forget(self.broker.url, self.queue))
        self.folder.cleanup()

    def measure(self) -> Result:
        """Attack."""
        others = Bystanders(self.daemon.port, self.worker, self.senders)
        with Watch(self.worker) as watch:
            self.watch = watch
            with nullcontext() if self.attack.alone else others:
                heard = self.attack.run(self)
                self.comfort()
                self.hang_up()
            time.sleep(0.5)  # what is freed at the end is gone then
        return Result(
            attack=self.attack,
            heard=heard,
            idle=watch.before,
            peak=watch.peak,
            bound=int(1.25 * self.memory) + watch.before,
            after=resident(self.worker),
            killed=watch.killed,
            seen=others.seen,
        )

    # The broker's troubles

    def trouble(self) -> None:
        """What `Attack.broker` says becomes of it now."""
        if self.broker is None:
            return
        self.troubled = True
        if self.attack.broker == "stopped":
            self.broker.pause()
        elif self.attack.broker == "blocked":
            self.broker.ctl("set_vm_memory_high_watermark", "0.00001")
        elif self.attack.broker == "gone":
            self.broker.kill()

    def comfort(self) -> None:
        """All is well with it again."""
        if self.broker is None or not self.troubled:
            return
        self.troubled = False
        if self.attack.broker == "stopped":
            self.broker.resume()
        elif self.attack.broker == "blocked":
            self.broker.ctl("set_vm_memory_high_watermark", "0.8")
        elif self.attack.broker == "gone":
            self.broker.start()

    # The attackers

    def scaled(self, count: int) -> int:
        """So many where smtp-maxmemory is 256 MB, fewer where it is less."""
        return max(1, count * self.unit // MB)

    def client(self, address: str = "127.0.0.1") -> Wire:
        """One connection, EHLO said; it is closed at the end."""
        made = Wire(self.daemon.port, PATIENCE, address)
        self.clients.append(made)
        made.ehlo()
        return made

    def crowd(self, count: int, do: Callable[[int], Reply | int | str]) -> str:
        """Call `do` in `count` threads at once: how often each reply was heard."""
        heard: list[str] = []

        def one(number: int) -> None:
            heard.append(outcome(lambda: do(number)))

        threads = [threading.Thread(target=one, args=[number]) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return counted(heard)

    def hang_up(self) -> None:
        """Everybody leaves."""
        for client in self.clients:
            client.close()
        self.clients.clear()


def outcome(do: Callable[[], Reply | int | str]) -> str:
    """What `do` heard: a code, or how its connection ended."""
    try:
        reply = do()
    except TimeoutError:
        return "no reply"
    except (OSError, EOFError):
        return "hung up"
    return str(reply.code if isinstance(reply, Reply) else reply)


def counted(heard: list[str]) -> str:
    """How often each was heard."""
    return " ".join(f"{number}x{what}" for what, number in sorted(Counter(heard).items()))


async def _forget(url: str, queue: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(queue)
