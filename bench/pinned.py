"""Workload (l): the server on one processor, the broker on another; the load runs where it can."""

import os

from bench.contenders import BrokerAlone, Smtp
from bench.figures import Figures
from bench.ground import pinned_to


def first() -> int:
    """The processor that is not the broker's (see `Ground.pinned_broker`)."""
    return min(os.sched_getaffinity(0))


class PinnedSmtp(Smtp):
    """A server under a load."""

    def start(self) -> None:
        with pinned_to(first()):
            self.server.start()


class PinnedBrokerAlone(BrokerAlone):
    """The ceiling, its writer where the server would be."""

    def round(self, seconds: float) -> Figures:
        with pinned_to(first()):
            return super().round(seconds)
