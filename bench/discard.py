"""fastsmtp with a sink that counts, hashes and forgets: `discard.py RESULT`, then its arguments.

Everything before the sink is the product's; RESULT is written when the daemon ends.
"""

import asyncio
import functools
import json
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fastsmtp.gate import Gate
from fastsmtp.metrics import Metrics
from fastsmtp.payload import Outgoing
from fastsmtp.process import cli, worker, workers
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Done


class Discard:
    """Answers what came together in one read of the loop together, as a sink does."""

    def __init__(self, result: Path, settings: Settings, gate: Gate, metrics: Metrics) -> None:
        self.result = result
        self.contents: Counter[int] = Counter()  # by CRC-32 of the encoded content
        self.last = b""
        self.waiting: list[Done] = []

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()

    def put(self, message: Sequence[Outgoing], done: Done) -> None:
        for each in message:
            content = memoryview(each.tail)[each.tail.index(b'"mime":') :]
            self.contents[zlib.crc32(content)] += 1
        self.last = each.prefix + each.tail
        if not self.waiting:
            self.loop.call_soon(self.answer)
        self.waiting.append(done)

    def answer(self) -> None:
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done(None)

    async def close(self) -> None:
        self.answer()
        found = {"contents": self.contents, "last": self.last.decode()}
        self.result.write_text(json.dumps(found))

    def __str__(self) -> str:
        return "nowhere"


if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        sys.exit(worker.main(functools.partial(Discard, Path(sys.argv[2]))))
    workers.COMMAND = [sys.executable, __file__, "--worker", sys.argv.pop(1)]
    sys.exit(cli.main())
