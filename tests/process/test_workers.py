"""process/workers and process/generation, inside the test: what cannot be timed from outside."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from pathlib import Path

import pytest

from fastsmtp.net import listener
from fastsmtp.process import config, workers
from fastsmtp.process.generation import Generation, Slots
from fastsmtp.process.sockets import Bound
from fastsmtp.process.workers import Job, WorkerError, WorkerProcess
from fastsmtp.settings import Settings
from tests.support.daemon import ROOT
from tests.support.sink import eventually
from tests.support.wire import Wire


def close(slots):
    for descriptor in (slots.counts, slots.failures):
        os.close(descriptor)


async def begin(workers):
    """Nothing speaks against them."""


@contextlib.asynccontextmanager
async def running(tmp_path, **settings):
    """A generation of real workers and the port that it accepts on."""
    made = Settings(
        smtp_hostname="mx", rabbitmq_address=(), queue_file=str(tmp_path / "queue.db"), **settings
    )
    slots = Slots()
    bound = listener.bind(("127.0.0.1",), (0,))
    generation = Generation(
        1,
        made,
        config.texts(made),
        [Bound(each, False) for each in bound],
        slots,
        lambda worker: None,
    )
    try:
        await generation.start(begin)
        yield generation, bound[0].getsockname()[1]
    finally:
        generation.kill()
        await generation.wait()
        listener.turn_away(bound, [])
        close(slots)


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_a_signal_to_a_worker_that_has_just_ended_does_no_harm(monkeypatch):
    async def main():
        worker = WorkerProcess(Job({}, [], [], slots.counts, slots.failures, 0, 1, 1))
        await worker.start()
        with contextlib.suppress(ChildProcessError):  # it has ended, and nobody here has heard
            os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
        worker.stop()
        worker.kill()
        with pytest.raises(WorkerError, match="ended with status 0 at its start"):
            await worker.wait_ready()

    slots = Slots()
    monkeypatch.setattr(workers, "COMMAND", ["true"])
    asyncio.run(main())
    close(slots)


def test_a_worker_that_hangs_at_its_start_is_replaced(tmp_path, monkeypatch, caplog):
    async def main():
        async with running(tmp_path) as (generation, port):
            (first,) = generation.workers
            with monkeypatch.context() as changed:
                changed.setattr(workers, "COMMAND", ["sleep", "600"])
                changed.setattr(workers, "START_TIMEOUT", 0.5)
                first.kill()
                await eventually(lambda: "another starts in 0.2 s" in caplog.text, 30)
            assert "worker 1: a worker was not ready after 0.5 s" in caplog.text
            assert "was killed by SIGKILL; another starts in 0.2 s" in caplog.text
            await asyncio.to_thread(lambda: Wire(port, 20).close())

    asyncio.run(main())


def test_a_start_that_is_called_off_leaves_no_process(monkeypatch):
    async def main():
        for steps in range(100):
            worker = WorkerProcess(Job({}, [], [], slots.counts, slots.failures, 0, 1, 1))
            starting = asyncio.create_task(worker.start())
            for _ in range(steps):
                await asyncio.sleep(0)
            if starting.done():
                worker.kill()
                await worker.ended
                return
            starting.cancel()
            await asyncio.wait([starting])
            await eventually(lambda: children() <= others, 30)
        pytest.fail("it has never started")

    slots, others = Slots(), children()  # brokers of other tests
    monkeypatch.setattr(workers, "COMMAND", ["sleep", "60"])
    asyncio.run(main())
    close(slots)


TALKATIVE = """
import sys
from fastsmtp.process import worker
counted = {"rejected": {f"kind {number}": number for number in range(200_000)}}
worker.Worker.snapshot = lambda self: counted | {"stopping": self.is_stopping}
sys.exit(worker.main())
"""


def test_counters_of_any_size_are_heard_and_end_nothing(tmp_path, monkeypatch):
    async def main():
        async with running(tmp_path) as (generation, port):
            (worker,) = generation.workers
            for _ in range(2):  # a line of some 5 MB
                await worker.ask(60)
                assert worker.answers
                assert len(worker.last["rejected"]) == 200_000
            await asyncio.to_thread(lambda: Wire(port, 20).close())
            assert generation.workers == [worker]
            generation.stop()
            await generation.wait()
            assert worker.ended.result() == 0
            assert worker.last["stopping"]  # its last words are whole, too

    monkeypatch.setattr(workers, "COMMAND", [sys.executable, "-c", TALKATIVE])
    asyncio.run(main())


def test_a_job_is_the_same_on_the_other_side_whatever_else_a_newer_supervisor_tells():
    job = Job({"smtp-port": "25"}, [3, 4], [False, True], 5, 6, 7, 1, 2, control=8)
    told = json.loads(job.to_json()) | {"new": "of a later version"}
    assert Job.from_json(json.dumps(told)) == job


def children():
    pid = os.getpid()
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


LAME = """
import io, json, sys, time
text = sys.stdin.read()
if json.loads(text)["number"] == 2:
    time.sleep(1.5)  # the first is ready
    sys.exit(3)
sys.stdin = io.StringIO(text)
from fastsmtp.process import worker
sys.exit(worker.main())
"""


def test_nobody_meets_a_generation_that_does_not_start(tmp_path, monkeypatch):
    async def main():
        with pytest.raises(WorkerError, match="ended with status 3 at its start"):
            async with running(tmp_path, smtp_threads=2) as _:
                pytest.fail("it has started")

    bound = listener.bind(("127.0.0.1",), (0,))
    monkeypatch.setattr(workers, "COMMAND", [sys.executable, "-c", LAME])
    monkeypatch.setattr(listener, "bind", lambda *_: bound)
    with socket.create_connection(bound[0].getsockname(), 20) as client:
        asyncio.run(main())
        assert client.recv(100) == b"421 4.3.2 Service is stopping, try again\r\n"
        assert client.recv(1) == b""
