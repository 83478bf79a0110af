"""fastsmtp with a broken promise, for the ledger to find: `mutants.py NAME`, then its arguments."""

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence

from fastsmtp.availability import Availability
from fastsmtp.metrics import Metrics
from fastsmtp.payload import Outgoing
from fastsmtp.process import cli, worker, workers
from fastsmtp.settings import Settings
from fastsmtp.sinks import table
from fastsmtp.sinks.base import Outcomes, Settle


class Mutant(ABC):
    """The real sink, but for `put`."""

    def __init__(
        self, settings: Settings, availability: Availability, metrics: Metrics, worker: int
    ) -> None:
        self.sink = table.make(settings, availability, metrics, worker)

    async def start(self) -> None:
        await self.sink.start()

    @abstractmethod
    def put(self, message: Sequence[Outgoing], settle: Settle) -> None: ...

    async def close(self) -> None:
        await self.sink.close()

    def __str__(self) -> str:
        return str(self.sink)


def ignore(outcomes: Outcomes) -> None:
    """The outcome came, and nobody cares."""


class AnswersEarly(Mutant):
    """Says 250 when the message is on its way, before the broker or the disk has it."""

    def put(self, message: Sequence[Outgoing], settle: Settle) -> None:
        asyncio.get_running_loop().call_soon(settle, [None] * len(message))
        self.sink.put(message, ignore)


class DropsFailedBatch(Mutant):
    """Every end is a good one: what was in flight when the channel closed counts as stored."""

    def put(self, message: Sequence[Outgoing], settle: Settle) -> None:
        self.sink.put(message, lambda outcomes: settle([None] * len(message)))


MUTANTS = {"answers-early": AnswersEarly, "drops-failed-batch": DropsFailedBatch}

if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        sys.exit(worker.main(MUTANTS[sys.argv[2]]))
    workers.COMMAND = [sys.executable, __file__, "--worker", sys.argv.pop(1)]
    sys.exit(cli.main())
