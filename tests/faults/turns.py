"""How long the commits of several workers wait for each other: `python -m tests.faults.turns`.

Three processes with an embedded queue each share one file, and mail waits for each of them all the
time. A wait is what a commit takes beyond its own fsyncs and CPU time: the other processes have the
file, or the processor. Arguments: seconds to measure (20), seconds that an fsync takes longer (0,
then 0.5).
"""

import asyncio
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fastsmtp._tail import Tail
from fastsmtp.availability import Availability
from fastsmtp.payload import Outgoing
from fastsmtp.sinks.arrivals import Put
from fastsmtp.sinks.base import Outcomes
from fastsmtp.sinks.embedded import Embedded
from fastsmtp.sinks.queue_counters import QueueCounters
from fastsmtp.sinks.store import Store
from tests.support.daemon import ROOT
from tests.support.disk import Disk

WORKERS = 3
IN_FLIGHT = 20
TAIL = b"x" * 2500


class Waits(NamedTuple):
    """What was measured; times in seconds."""

    slower: float  # that each fsync takes longer
    commits: list[int]  # of each worker
    median: float
    p99: float
    longest: float

    def __str__(self) -> str:
        return (
            f"fsync {self.slower:g} s slower: commits of each worker {self.commits}, their waits "
            f"for the others: median {self.median:.3f} s, p99 {self.p99:.3f} s, "
            f"longest {self.longest:.3f} s"
        )


def measure(seconds: float, slower: float) -> Waits:
    """Let the workers commit for so long."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "disk"
        folder.mkdir()
        disk = Disk(folder, Path(place))
        Store(str(folder / "queue.db"), create=True).close()
        disk.faults.slow_down(slower)
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.faults.turns", "--worker", folder, str(seconds)],
                env={**os.environ, **disk.environment},
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for _ in range(WORKERS)
        ]
        try:
            for worker in workers:
                assert worker.stdout is not None
                worker.stdout.readline()
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.close()
                worker.stdin = None
            said = [json.loads(worker.communicate(timeout=seconds + 60)[0]) for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    waits = sorted(wait for each in said for wait in each)
    at = [waits[int(share * (len(waits) - 1))] for share in (0.5, 0.99, 1)]
    return Waits(slower, [len(each) for each in said], *at)


class Timed(Store):
    """A store that measures its commits."""

    waits: list[float] = []  # noqa: RUF012

    def add_all(self, puts: Sequence[Put]) -> None:
        own, began = self.own(), time.monotonic()
        super().add_all(puts)
        self.waits.append(max(0.0, time.monotonic() - began - (self.own() - own)))

    def own(self) -> float:
        """Seconds that this thread has spent in fsyncs, and computing."""
        busy = ctypes.CDLL(None).disk_busy  # of the preloaded library: nanoseconds
        busy.restype = ctypes.c_int64
        return busy() / 1e9 + time.thread_time()


async def work(path: str, seconds: float) -> None:
    sink = Embedded(path, 1 << 40, Availability(1 << 30), QueueCounters())
    sink._committer._open_store = lambda: Timed(path, 1 << 40, create=True)
    await sink.start()
    loop = asyncio.get_running_loop()
    print(flush=True)
    await asyncio.to_thread(sys.stdin.read)
    end = loop.time() + seconds

    async def putter(name: str) -> None:
        count = 0
        while loop.time() < end:
            count += 1
            settled: asyncio.Future[Outcomes] = loop.create_future()
            row = Outgoing(f"{os.getpid()}{name}{count}", None, "", b"{", Tail.of(TAIL))
            sink.put([row], settled.set_result)
            assert await settled == [None]

    await asyncio.gather(*(putter(f"p{n}x") for n in range(IN_FLIGHT)))
    await sink.close()
    print(json.dumps(Timed.waits))


def main(arguments: list[str]) -> None:
    seconds = float(arguments[0]) if arguments else 20.0
    for slower in map(float, arguments[1:] or ("0", "0.5")):
        print(measure(seconds, slower), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        asyncio.run(work(f"{sys.argv[2]}/queue.db", float(sys.argv[3])))
    else:
        main(sys.argv[1:])
