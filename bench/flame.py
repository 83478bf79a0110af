"""`python -m bench.flame`: a flame graph of fastsmtp under (a), C and Cython frames included.

py-spy takes samples of the worker while the load goes on; the picture is kept under
bench/results/. Says what is missing where py-spy is not there or may not look.
"""

import argparse
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from shutil import which

from bench import RESULTS, build
from bench.ground import Ground
from bench.load import Load, finish, send, start
from bench.measure import tree
from bench.rounds import WARM_UP
from bench.servers import Fastsmtp
from tests.support import postfix, rabbitmq

RATE = 200
"""Samples a second."""
START = 1.0
"""Seconds until py-spy has read the symbols: the load lasts so much longer."""


def record(pid: int, seconds: int, picture: Path) -> str:
    """Draw what a process does; what went wrong, or ""."""
    # Beside the interpreter: the virtual environment need not be active.
    spy = which("py-spy", path=Path(sys.executable).parent) or which("py-spy")
    if spy is None:
        return "py-spy is not installed: dependency group bench of pyproject.toml"
    done = subprocess.run(
        [
            *(spy, "record", "--native", "--nolineno", "--rate", str(RATE)),
            *("--duration", str(seconds), "--output", str(picture), "--pid", str(pid)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not picture.exists():
        return (
            f"py-spy ended with {done.returncode}; it needs the right to trace processes (root, "
            f"CAP_SYS_PTRACE, or kernel.yama.ptrace_scope=0):\n{done.stdout}{done.stderr}"
        )
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.flame", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    seconds = parser.parse_args().seconds
    if missing := postfix.MISSING or rabbitmq.MISSING:
        parser.exit(1, f"{missing}\n")
    build.build()
    RESULTS.mkdir(exist_ok=True)
    picture = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-profile.svg"
    with ExitStack() as stack:
        ground = Ground(stack)
        server = Fastsmtp(ground.broker, "profile", ground.folder)
        server.start()
        stack.callback(server.stop)
        warm_up = send(Load(seconds=WARM_UP), server.port)
        load = start(Load(seconds=seconds + START), server.port)
        try:
            worker = tree(server.pid)[-1]  # below the supervisor
            wrong = record(worker, seconds, picture)
            sent = finish(load, seconds + 60)
        finally:
            load.kill()
        server.check(warm_up.messages + sent.messages, Load())
    print(wrong or picture)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
