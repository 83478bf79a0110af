"""Workload (k): one message of 100 MB amid the traffic of 2 KB messages."""

import time

from bench.figures import Figures
from bench.load import Load, Sent, finish, send, start
from bench.measure import forget_peak, peak, resident
from bench.servers import Server

SIZE = 100_000_000
"""Octets; 100 MiB in base64, which must fit too, are more than RabbitMQ 3 takes."""
LARGE = Load(size=SIZE, sessions=1, messages=1, seconds=60)
OTHERS = Load(seconds=120)  # ended by us


class AmidTraffic:
    """Peak memory over idle, in messages; latency of the others while the large one was there."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.name = server.name
        self.answers = server.answers

    def start(self) -> None:
        """Each round has a server of its own: what was freed stays with a process."""

    def round(self, seconds: float) -> Figures:
        self.server.start()
        try:
            warm_up = send(Load(seconds=0.5), self.server.port)
            self.server.check(warm_up.messages, OTHERS)
            idle = resident(self.server.pid)
            forget_peak(self.server.pid)
            large, amid = self.meet()
            highest = peak(self.server.pid)
            self.server.check(large.messages + amid.messages, LARGE, OTHERS)
        finally:
            self.server.stop()
        return {
            "multiple": (highest - idle) / SIZE,
            "p50": amid.p50 * 1e3,
            "p99": amid.p99 * 1e3,
            "worst": amid.worst * 1e3,  # a stall is few messages: each session has one at a time
            "large": large.p50,
        }

    def meet(self) -> tuple[Sent, Sent]:
        """The large message amid the others: what either saw."""
        others = start(OTHERS, self.server.port)
        try:
            time.sleep(0.3)  # the generator's own beginning
            large = send(LARGE, self.server.port)
            others.terminate()
            return large, finish(others, 60)
        finally:
            others.kill()

    def stop(self) -> None:
        """Nothing is left of a round."""
