"""Many SMTP sessions at once that write a ledger: the load under which things are killed.

A session sends one message after the other, by DATA and by BDAT, to one or several recipients,
and begins anew when its connection breaks. It never sends a message twice.
"""

import asyncio
import contextlib
import itertools
import math
import random
import threading
import time
from types import TracebackType
from typing import Self

from tests.faults.ledger import Ledger, Mail, digest
from tests.support.wire import stuffed

PAUSE = 0.02
"""Seconds between a session's messages at most: enough mail in flight, and a queue that ends."""

REPLY_TIMEOUT = 60.0


class RefusedError(Exception):
    """The server did not take what was sent, or ends the connection (421); it said so."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Session:
    """One client."""

    def __init__(self, port: int, ledger: Ledger, name: int) -> None:
        self.port = port
        self.ledger = ledger
        self.name = name
        self.count = 0
        self.random = random.Random(ledger.seed * 1000 + name)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.connection()
            except RefusedError:
                pass
            except (OSError, EOFError) as error:
                self.ledger.broken.append(repr(error))
            await asyncio.sleep(self.random.uniform(0, 0.1))  # the rate of a client

    async def connection(self, messages: float = math.inf) -> None:
        """One connection's life; it sends so many messages at most."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            await self.expect(220)
            await self.command(f"EHLO client{self.name}.example.net", 250)
            while messages > 0:
                messages -= 1
                await self.message()
                await asyncio.sleep(self.random.uniform(0, PAUSE))  # the rate of a client
        finally:
            self.writer.transport.abort()

    async def reply(self) -> int:
        """The code of the next reply; raises RefusedError for 421."""
        async with asyncio.timeout(REPLY_TIMEOUT):
            while True:
                line = await self.reader.readline()
                if not line.endswith(b"\r\n"):
                    raise EOFError
                if line.startswith(b"421 "):
                    raise RefusedError(421)
                if line[3:4] == b" ":
                    return int(line[:3])

    async def expect(self, code: int) -> None:
        if (given := await self.reply()) != code:
            raise RefusedError(given)

    async def command(self, line: str, code: int) -> None:
        self.writer.write(line.encode() + b"\r\n")
        await self.expect(code)

    def compose(self) -> tuple[Mail, bytes]:
        """A message of 0.1 to 30 KB whose token stands in its sender and in its Subject."""
        self.count += 1
        token = f"t{self.name}x{self.count}"
        size = int(100 * 300 ** self.random.random())
        lines = (self.random.randbytes(35).hex() for _ in range(size // 72))
        content = f"Subject: {token}\r\n\r\n.{token}\r\n".encode() + b"".join(
            line.encode() + b"\r\n" for line in lines
        )
        recipients = tuple(f"{token}.{n}@example.org" for n in range(self.random.choice((1, 1, 3))))
        return Mail(token, f"{token}@example.com", recipients, digest(content)), content

    async def message(self) -> None:
        """One message, pipelined up to its content; its outcome goes to the ledger."""
        mail, content = self.compose()
        envelope = [f"MAIL FROM:<{mail.sender}>", *(f"RCPT TO:<{to}>" for to in mail.recipients)]
        self.writer.write("".join(f"{line}\r\n" for line in envelope).encode())
        codes = [await self.reply() for _ in envelope]
        if set(codes) != {250}:
            self.ledger.deferred += 1
            await self.command("RSET", 250)
            await asyncio.sleep(self.random.uniform(0, 0.1))  # the rate of a client
            return
        if self.random.random() < 0.5:
            await self.command("DATA", 354)
            last = stuffed(content)
        else:
            last = b"BDAT %d LAST\r\n" % len(content) + content
        self.ledger.sent(mail)
        self.writer.write(last)
        try:
            self.ledger.answered(mail.token, await self.reply())
        except RefusedError as refused:
            self.ledger.answered(mail.token, refused.code)
            raise


class Load:
    """Sessions in a thread of their own, from entering the context to leaving it.

    With `arrivals`, a client comes every so many seconds that sends one message: those that are
    there may all be waiting for a reply.
    """

    def __init__(
        self, port: int, ledger: Ledger, sessions: int = 20, arrivals: float = math.inf
    ) -> None:
        self.port = port
        self.ledger = ledger
        self.arrivals = arrivals
        self.sessions = [Session(port, ledger, name) for name in range(sessions)]
        self.over = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run()))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.over.set()
        self.thread.join()

    async def run(self) -> None:
        tasks = [asyncio.create_task(session.run()) for session in self.sessions]
        if self.arrivals < math.inf:
            tasks.append(asyncio.create_task(self.receive()))
        await asyncio.to_thread(self.over.wait)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome

    async def receive(self) -> None:
        """Let clients come until cancelled."""
        async with asyncio.TaskGroup() as clients:
            for name in itertools.count(len(self.sessions)):
                clients.create_task(self.visit(Session(self.port, self.ledger, name)))
                await asyncio.sleep(self.arrivals)  # the rate of the clients

    async def visit(self, session: Session) -> None:
        """One message by a client that goes then, refused or not."""
        with contextlib.suppress(RefusedError, OSError, EOFError):
            await session.connection(1)

    def wait_for(self, messages: int, timeout: float) -> float:
        """Until so many more messages are acknowledged; gives the seconds that it took."""
        began = time.monotonic()
        goal = self.ledger.acknowledged + messages
        while self.ledger.acknowledged < goal:
            waited = time.monotonic() - began
            assert waited < timeout, f"{self.ledger.acknowledged} of {goal} after {waited:.1f} s"
            time.sleep(0.005)  # looks again
        return time.monotonic() - began
