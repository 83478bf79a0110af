"""Clients that mean no harm, while others do: what they hear, how long they wait.

`Bystanders` starts them as a process of their own, so that they wait for the server alone and not
for the test beside them. They are one connection that says NOOP again and again, and `senders` that
send a small mail each from an address of their own, on a connection that they keep.

As a program: `bystanders.py PORT WORKER SENDERS INTERVAL` until its standard input ends; then it
prints what it saw as JSON.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

MAIL = b"Subject: a small mail\r\n\r\n" + b"All is well here, as it was before.\r\n" * 50 + b".\r\n"
NOOP_PAUSE = 0.003
PATIENCE = 30.0
"""Seconds that mail on its way has to be answered in once everything else is over."""


@dataclass
class Seen:
    """What they saw. Times are in seconds."""

    codes: dict[str, int] = field(default_factory=dict)  # of small mails; "lost": no reply at all
    waits: list[float] = field(default_factory=list)  # from MAIL to 250
    longest_wait: float = 0.0  # from NOOP to its reply
    longest_step: float = 0.0  # CPU that the server's event loop used meanwhile

    @property
    def sent(self) -> int:
        return sum(self.codes.values())

    @property
    def accepted(self) -> float:
        """The share of small mails that was accepted."""
        return self.codes.get("250", 0) / (self.sent or 1)

    def wait(self, share: float) -> float:
        """So long or less waited this share of the accepted ones."""
        waits = sorted(self.waits)
        return waits[min(len(waits) - 1, int(share * len(waits)))] if waits else float("nan")


class Bystanders:
    """Use as a context manager; `seen` is there behind it."""

    def __init__(self, port: int, worker: int, senders: int = 8, interval: float = 0.2) -> None:
        self.arguments = (str(port), str(worker), str(senders), str(interval))
        self.seen = Seen()

    def __enter__(self) -> "Bystanders":
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.bystanders", *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()  # they have begun
        return self

    def __exit__(self, *_: object) -> None:
        try:
            said, _none = self.process.communicate(timeout=2 * PATIENCE)
            self.seen = Seen(**json.loads(said))
        finally:
            self.process.kill()
            self.process.wait()


class _Line:
    """One connection; each command's reply is its code."""

    def __init__(self, port: int, address: str) -> None:
        self.port = port
        self.address = address
        self.writer: asyncio.StreamWriter | None = None

    async def say(self, data: bytes) -> str:
        """Raises OSError, also where the server has hung up or says that it will."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(
                "127.0.0.1", self.port, local_addr=(self.address, 0)
            )
            await self.code()
            await self.say(b"EHLO bystander.example.net\r\n")
        self.writer.write(data)
        return await self.code()

    async def code(self) -> str:
        while True:
            line = await self.reader.readline()
            if not line or line.startswith(b"421"):
                self.hang_up()
                raise ConnectionError(line[:3].decode())
            if line[3:4] == b" ":
                return line[:3].decode()

    def hang_up(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()
            self.writer = None


def _used(worker: int) -> int:
    """Nanoseconds of CPU of the thread that runs the loop."""
    return int(Path(f"/proc/{worker}/task/{worker}/schedstat").read_text().split()[0])


async def _probe(port: int, worker: int, seen: Seen, begun: asyncio.Event) -> None:
    """NOOP, with a look at the CPU time of the thread that runs the loop on both sides of it."""
    line = _Line(port, "127.0.1.1")
    count = 0
    while True:
        if count % 500 == 0:  # a session has a limit of commands
            line.hang_up()
            with suppress(OSError):
                await line.say(b"NOOP\r\n")
            begun.set()
        count += 1
        began, cpu = time.monotonic(), _used(worker)
        try:
            await line.say(b"NOOP\r\n")
        except OSError:
            await asyncio.sleep(0.1)  # connects again
            continue
        step = (_used(worker) - cpu) / 1e9
        seen.longest_wait = max(seen.longest_wait, time.monotonic() - began)
        seen.longest_step = max(seen.longest_step, step)
        await asyncio.sleep(NOOP_PAUSE)  # the rate of the questions


async def _send(number: int, port: int, interval: float, seen: Seen, over: asyncio.Event) -> None:
    line = _Line(port, f"127.0.2.{number + 1}")
    await asyncio.sleep(interval * number / 10)  # clients begin one after the other
    while not over.is_set():
        began = time.monotonic()
        code = "lost"
        try:
            for command, good in (
                (b"MAIL FROM:<me@example.net>\r\n", "250"),
                (b"RCPT TO:<you@example.org>\r\n", "250"),
                (b"DATA\r\n", "354"),
                (MAIL, "250"),
            ):
                code = "lost"
                code = await line.say(command)
                if code != good:
                    await line.say(b"RSET\r\n")
                    break
            else:
                seen.waits.append(time.monotonic() - began)
        except OSError as error:
            code = str(error) if str(error) == "421" else "lost"
        except asyncio.CancelledError:
            _count(seen, "lost")
            raise
        _count(seen, code)
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), max(0.0, began + interval - time.monotonic()))


def _count(seen: Seen, code: str) -> None:
    seen.codes[code] = seen.codes.get(code, 0) + 1


async def _main(port: int, worker: int, senders: int, interval: float) -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)  # what we measure is the server
    seen, begun, over = Seen(), asyncio.Event(), asyncio.Event()
    probe = asyncio.create_task(_probe(port, worker, seen, begun))
    await begun.wait()
    tasks = [asyncio.create_task(_send(n, port, interval, seen, over)) for n in range(senders)]
    print("begun", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    over.set()
    probe.cancel()
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=PATIENCE)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    print(json.dumps(vars(seen)))


if __name__ == "__main__":
    numbers = sys.argv[1:]
    asyncio.run(_main(int(numbers[0]), int(numbers[1]), int(numbers[2]), float(numbers[3])))
