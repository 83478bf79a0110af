"""A sink under a test's command, and a listener around it inside the test's own process.

As a program, `held.py OUTCOME` and its arguments are fastsmtp with that sink: `hold` answers
nothing until SIGUSR1, `hang` not even `close`.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import uvloop

from fastsmtp.net import connection_counts, failures
from fastsmtp.net.connection_counts import ConnectionCounts
from fastsmtp.net.failures import Failures
from fastsmtp.net.listener import bind, turn_away
from fastsmtp.payload import Outgoing
from fastsmtp.process import cli, worker, workers
from fastsmtp.questions import Message
from fastsmtp.replies import Reply
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Settle

COMMAND = (sys.executable, "-m", "tests.support.held")

T = TypeVar("T")


class Held:
    """Keeps every message until `release`; `auto`: settles when the loop comes round."""

    def __init__(self, hang: bool = False) -> None:
        self.auto = False
        self.hang = hang
        self.waiting: list[tuple[Settle, int]] = []  # and the number of recipients
        self.messages: list[list[Outgoing]] = []

    async def start(self) -> None:
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.release)

    def put(self, message: Sequence[Outgoing], settle: Settle) -> None:
        self.messages.append(list(message))
        if self.auto:
            asyncio.get_running_loop().call_soon(settle, [None] * len(message))
        else:
            self.waiting.append((settle, len(message)))

    def release(self, outcome: Reply | None = None, auto: bool = True) -> None:
        """Settle what waits, and from now on everything at once."""
        self.auto = auto
        waiting, self.waiting = self.waiting, []
        for settle, recipients in waiting:
            settle([outcome] * recipients)

    async def close(self, grace: float = 0.0) -> None:
        if self.hang:
            await asyncio.Event().wait()
        self.release()

    def __str__(self) -> str:
        return "a held sink"


class Inside:
    """The listener and all behind it on a uvloop in a thread; use as a context manager."""

    def __init__(
        self, sink: Any = None, make_sink: worker.MakeSink | None = None, **settings: Any
    ) -> None:
        self.sink = sink or Held()
        self.make_sink = make_sink or (lambda *_: self.sink)
        self.settings = Settings(smtp_hostname="mx.example.com", **settings)
        self.errors: list[str] = []  # what reached the loop's exception handler
        self.grace = 0.0
        self.started = threading.Event()
        self.thread = threading.Thread(target=lambda: uvloop.run(self.main()))

    async def main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _, context: self.errors.append(str(context)))
        self.ending = asyncio.Event()
        memory = connection_counts.create()
        counts = ConnectionCounts(memory, 0)
        os.close(memory)
        memory = failures.create()
        failed = Failures(memory, 0)
        os.close(memory)
        made = worker.Worker(self.settings, self.make_sink, counts, failed, dict)
        self.sink = made.sink
        self.intake = made.listener._server.answerers[Message]
        self.metrics, self.availability, self.listener = (
            made.metrics,
            made.availability,
            made.listener,
        )
        sockets = bind(("127.0.0.1",), (0,))
        self.port: int = sockets[0].getsockname()[1]
        tls_sockets = bind(("127.0.0.1",), (0,)) if self.settings.smtp_certificate else []
        self.tls_port: int = tls_sockets[0].getsockname()[1] if tls_sockets else 0
        bound = [each.dup() for each in sockets]  # as the supervisor has them
        tls_bound = [each.dup() for each in tls_sockets]
        await self.listener.start(sockets, tls_sockets)
        self.started.set()
        await self.ending.wait()
        await self.listener.stop(self.grace)
        turn_away(bound, tls_bound)

    def __enter__(self) -> "Inside":
        self.thread.start()
        assert self.started.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self.thread.join(30)
        assert not self.thread.is_alive()
        assert self.errors == []

    def end(self) -> None:
        """Begin to stop the listener, unless that was done before."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.ending.set)

    def do(self, function: Callable[[], T]) -> T:
        """Call `function` on the loop; gives what it gave."""

        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(30)

    @property
    def connections(self) -> list[Any]:
        """Those that are open."""
        return list(self.listener._server.open)


if __name__ == "__main__":
    outcome = sys.argv.pop(1)
    if outcome == "--worker":
        sys.exit(worker.main(lambda *_: Held(hang=sys.argv[1] == "hang")))
    workers.COMMAND = [*COMMAND, "--worker", outcome]
    sys.exit(cli.main())
