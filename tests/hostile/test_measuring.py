"""What the attacks are judged by sees what it is there to see."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.bystanders import Bystanders
from tests.support.resident import MB, Watch, resident

PEAK = """
import sys
print("begun", flush=True)
for line in sys.stdin:
    data = b"x" * (100 << 20)
    del data
    print("done", flush=True)
"""

SERVER = """
import asyncio, time

async def serve(reader, writer):
    writer.write(b"220 here\\r\\n")
    while line := await reader.readline():
        if line.startswith(b"DATA"):
            writer.write(b"354 go\\r\\n")
            while await reader.readline() != b".\\r\\n":
                pass
            print("mail", flush=True)
            burnt = time.process_time()
            while time.process_time() < burnt + 0.3:
                pass
        writer.write(b"250 ok\\r\\n")

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", request.param], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        yield started
        started.kill()


@pytest.mark.parametrize("process", [PEAK], indirect=True)
def test_a_watch_sees_memory_that_is_there_for_a_moment(process) -> None:
    process.stdout.readline()
    with Watch(process.pid) as watch:
        process.stdin.write(b"go\n")
        process.stdin.flush()
        process.stdout.readline()
    assert 90 * MB < watch.peak - watch.before < 110 * MB
    assert resident(process.pid) < watch.before + 10 * MB
    with Watch(process.pid) as again:
        pass
    assert again.peak < watch.before + 10 * MB
    assert not watch.killed


@pytest.mark.parametrize("process", [SERVER], indirect=True)
def test_bystanders_see_a_loop_that_is_kept(process) -> None:
    port = int(process.stdout.readline())
    with Bystanders(port, process.pid, senders=1, interval=0.1) as others:
        for _ in range(3):
            assert process.stdout.readline() == b"mail\n"
    seen = others.seen
    assert seen.codes == {"250": seen.sent}
    assert seen.sent >= 3
    assert 0.2 < seen.longest_step < 1
    assert seen.longest_wait > 0.2
    assert 0.25 < seen.wait(0.5) <= seen.wait(0.99) <= seen.wait(1)
