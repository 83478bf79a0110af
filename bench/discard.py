"""fastsmtp with a sink that counts, compares and forgets: `discard.py RESULT`, then its arguments.

Everything before the sink is the product's; RESULT is written when the daemon ends.
"""

import asyncio
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fastsmtp.availability import Availability
from fastsmtp.metrics import Metrics
from fastsmtp.payload import Outgoing
from fastsmtp.process import cli, worker, workers
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Settle


class Discard:
    """Answers what came together in one read of the loop together, as a sink does."""

    def __init__(
        self,
        result: Path,
        settings: Settings,
        availability: Availability,
        metrics: Metrics,
        worker: int = 0,
    ) -> None:
        self.result = result
        self.content = b""  # encoded, of the first message
        self.equal = 0  # messages that have the same
        self.other = 0  # and those that do not
        self.last = (b"", b"")
        self.waiting: list[tuple[Settle, int]] = []  # and the number of recipients

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()

    def put(self, message: Sequence[Outgoing], settle: Settle) -> None:
        for each in message:
            tail = bytes(each.tail)
            content = tail[tail.index(b'"mime":') :]
            if not self.equal:
                self.content = content
            if content == self.content:
                self.equal += 1
            else:
                self.other += 1
        self.last = (each.prefix, tail)
        if not self.waiting:
            self.loop.call_soon(self.answer)
        self.waiting.append((settle, len(message)))

    def answer(self) -> None:
        waiting, self.waiting = self.waiting, []
        for settle, recipients in waiting:
            settle([None] * recipients)

    async def close(self, grace: float = 0.0) -> None:
        self.answer()
        last = b"".join(self.last).decode()
        found = {"equal": self.equal, "other": self.other, "last": last}
        self.result.write_text(json.dumps(found))

    def __str__(self) -> str:
        return "nowhere"


if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        sys.exit(worker.main(functools.partial(Discard, Path(sys.argv[2]))))
    workers.COMMAND = [sys.executable, __file__, "--worker", sys.argv.pop(1)]
    sys.exit(cli.main())
