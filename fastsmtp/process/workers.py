"""One worker process as its supervisor sees it: started, ready, retired, ended.

The worker is executed, never forked, so it runs the code that is on disk. It gets its job as JSON
on standard input and inherits the sockets; then both sides talk over a socket pair (`json_lines`):
ready or failed, accept, retire, and its counters whenever they are asked for.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from dataclasses import asdict, dataclass, field
from subprocess import PIPE
from typing import Any

from fastsmtp.counters import Snapshot
from fastsmtp.process import json_lines

COMMAND = [sys.executable, "-P", "-m", "fastsmtp.process.worker"]

START_TIMEOUT = 60.0
"""Seconds from the start of a worker until it is ready."""

BLOCKED = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}
"""Signals that a worker unblocks when it can take them: they come to whole process groups."""

ANSWER_TIMEOUT = 2.0
"""Seconds that a worker has to tell its counters."""


class WorkerError(Exception):
    """A worker did not become ready; the text says why."""


@dataclass(slots=True)
class Job:
    """What a worker is told."""

    settings: dict[str, str]  # the text of every setting
    listening: list[int]  # descriptors of bound sockets
    tls_first: list[bool]  # each of those is a TLS port
    counts: int  # descriptor of the memory in which connections are counted
    failures: int  # descriptor of the memory in which failed authentications are counted
    slot: int  # of both
    number: int  # of the worker in its generation, from 1
    generation: int  # from 1
    owned: list[int] = field(default_factory=list)  # descriptors that a worker keeps open
    control: int = -1  # descriptor of the socket pair's other end

    def to_json(self) -> str:
        """The job as `from_json` takes it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """The job of a supervisor, which may be of another version.

        What we do not know is left out; what it does not know has its default.
        """
        told = json.loads(text)
        return cls(**{name: told[name] for name in cls.__slots__ if name in told})


@dataclass(slots=True)
class WorkerProcess:
    """One worker, from `start` to its end."""

    job: Job
    pid: int = 0
    queue: str = ""  # where its mail goes, once it is ready
    refused: str = ""  # why the broker did not let it in then; "" where it did, or was not there
    accepting: bool = False  # it was told to accept mail
    last: Snapshot = field(default_factory=dict)  # the last counters that it told
    answers: bool = False  # it told them when it was last asked
    was_ready: bool = False  # it has told once that it takes mail
    ended: "asyncio.Future[int]" = field(init=False)  # the exit status, negative for a signal
    _ready: "asyncio.Future[str]" = field(init=False)
    _writer: asyncio.StreamWriter = field(init=False)
    _answer: "asyncio.Future[bool] | None" = None  # to a question that it was asked
    _tasks: list["asyncio.Task[Any]"] = field(default_factory=list)

    async def start(self) -> None:
        """Start the process; `wait_ready` tells whether it works."""
        loop = asyncio.get_running_loop()
        self.ended, self._ready = loop.create_future(), loop.create_future()
        ours, theirs = socket.socketpair()
        with theirs:
            reader, self._writer = await asyncio.open_unix_connection(sock=ours)
            self.job.control = theirs.fileno()
            passed = (
                *self.job.listening,
                *self.job.owned,
                self.job.counts,
                self.job.failures,
                self.job.control,
            )
            signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
            try:  # the last await: behind it, `_tasks` see to the process
                process = await asyncio.create_subprocess_exec(
                    *COMMAND, stdin=PIPE, pass_fds=passed
                )
            except BaseException:
                self._writer.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
        self.pid = process.pid
        self._tasks = [
            loop.create_task(self._hand_over(process)),
            loop.create_task(self._listen(reader, process)),
        ]

    async def wait_ready(self) -> None:
        """Until it can accept mail; raises WorkerError."""
        try:
            async with asyncio.timeout(START_TIMEOUT):
                self.queue = await asyncio.shield(self._ready)
        except TimeoutError:
            raise WorkerError(f"a worker was not ready after {START_TIMEOUT:g} s") from None

    def accept(self) -> None:
        """Accept mail."""
        self.accepting = True
        self._tell({"accept": True})

    def retire(self) -> None:
        """Accept no more: others take its place on the same sockets."""
        self._tell({"retire": True})

    def stop(self) -> None:
        """End, and answer new clients with 421 meanwhile."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End at once."""
        self._signal(signal.SIGKILL)

    async def ask(self, seconds: float | None = ANSWER_TIMEOUT) -> None:
        """Let it tell its counters; `answers` and `last` hold what came of it.

        It has so many seconds; None: as many as it likes. Who asks while it was asked already
        waits for the same answer.
        """
        if self.ended.done():
            return
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
            self._tell({"snapshot": True})
        try:
            async with asyncio.timeout(seconds):
                self.answers = await asyncio.shield(self._answer)
        except TimeoutError:
            self.answers = False

    @property
    def how_it_ended(self) -> str:
        """In words, for the log."""
        status = self.ended.result()
        if status >= 0:
            return f"ended with status {status}"
        try:
            return f"was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"was killed by signal {-status}"

    def _signal(self, number: int) -> None:
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):  # it has ended, `_listen` will tell
                os.kill(self.pid, number)

    def _tell(self, message: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(json_lines.line(message))

    async def _hand_over(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(self.job.to_json().encode())
            await process.stdin.drain()
        except ConnectionError:
            pass  # it ended already, which `_listen` tells
        finally:
            process.stdin.close()

    async def _listen(
        self, reader: asyncio.StreamReader, process: asyncio.subprocess.Process
    ) -> None:
        """Take what it says until it ends."""
        try:
            async for message in json_lines.messages(reader):
                self._take(message)
        finally:
            self._writer.close()
            self.ended.set_result(await process.wait())
            if not self._ready.done():
                self._ready.set_exception(WorkerError(f"a worker {self.how_it_ended} at its start"))
                self._ready.exception()  # nobody may be waiting
            self._answered(False)

    def _take(self, message: dict[str, Any]) -> None:
        if "snapshot" in message:
            self.last = message["snapshot"]
            self.was_ready = self.was_ready or bool(self.last.get("accepting"))
            self._answered(True)
        elif "ready" in message:
            self.refused = message.get("refused", "")
            self._ready.set_result(message["ready"])
        elif "failed" in message and not self._ready.done():
            self._ready.set_exception(WorkerError(message["failed"]))
            self._ready.exception()

    def _answered(self, told: bool) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.set_result(told)
