"""The load and the clock: Postfix's smtp-source, and the CPU time of a server's processes."""

import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.support import postfix

SENDER = "sender@example.com"
RECIPIENT = "rcpt@example.org"
SESSIONS = 20

CONTENT = b"".join(
    [
        b"From: <sender@example.com>\r\nTo: <rcpt@example.org>\r\n",
        b"Subject: 2 KB of mail\r\nMessage-Id: <1@example.com>\r\n\r\n",
        *[b"%02d%s\r\n" % (line, b"x" * 62) for line in range(29)],
        b"x" * 24 + b"\r\n\r\n",  # smtp-source ends what it reads from a file with an empty line
    ]
)
assert len(CONTENT) == 2048


class Round(NamedTuple):
    """What one server did with one load."""

    cpu: float  # seconds of CPU time of its processes, a message
    rate: float  # messages a second


def cpu_seconds(pid: int) -> float:
    """User and system time that a process and those below it have used."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def send(port: int, messages: int, folder: Path) -> None:
    """20 sessions that send one mail after the other, each over one connection, no pipelining."""
    file = folder / "content.txt"
    file.write_bytes(CONTENT.removesuffix(b"\r\n").replace(b"\r\n", b"\n"))
    subprocess.run(
        [
            *(postfix.SMTP_SOURCE, "-d", "-s", str(SESSIONS), "-m", str(messages)),
            *("-f", SENDER, "-t", RECIPIENT, "-F", str(file), f"127.0.0.1:{port}"),
        ],
        env=postfix.ENV,
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=600,
    )


def measure(port: int, pid: int, messages: int, folder: Path) -> Round:
    """Send `messages` and see what that cost the server."""
    cpu, began = cpu_seconds(pid), time.perf_counter()
    send(port, messages, folder)
    took = time.perf_counter() - began
    return Round((cpu_seconds(pid) - cpu) / messages, messages / took)
