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
from fastsmtp.sinks.hedge import Hedge, State
from fastsmtp.sinks.rabbitmq.delivery import Delivery
from fastsmtp.sinks.spill import Spill
from fastsmtp.sinks.spill_drain import SpillDrain
from fastsmtp.sinks.spill_file import SpillFile


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

    async def close(self, grace: float = 0.0) -> None:
        await self.sink.close(grace)

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


def drain_deletes_early() -> None:
    """A row leaves the spill when it is published, not when it is confirmed."""
    publish = SpillDrain._publish

    async def published(self: SpillDrain, file: SpillFile, seqs: list[int]) -> None:
        await publish(self, file, seqs)
        self._published += self.in_flight

    SpillDrain._publish = published


def hedge_forgets() -> None:
    """Mail that the broker confirms too slowly is answered, and not stored."""

    def expire(self: Hedge, position: int) -> bool:
        if position not in self._states:
            self._states[position] = (State.STORED, self._message[position].id)
            Delivery.settle(self, position, None)
        return False

    Hedge.expire = expire
    Spill.forget = Spill.release = lambda *_: None


MUTANTS = {"answers-early": AnswersEarly, "drops-failed-batch": DropsFailedBatch}

PATCHES = {
    "drain-deletes-early": drain_deletes_early,
    "hedge-forgets": hedge_forgets,
}

if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        if sys.argv[2] in PATCHES:
            PATCHES[sys.argv[2]]()
            sys.exit(worker.main())
        sys.exit(worker.main(MUTANTS[sys.argv[2]]))
    workers.COMMAND = [sys.executable, __file__, "--worker", sys.argv.pop(1)]
    sys.exit(cli.main())
