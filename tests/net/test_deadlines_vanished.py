"""net/deadlines: a client whose host vanishes, so that nothing of it ever arrives again."""

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.daemon import Daemon
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.wire import Wire

PHASES = [
    b"",
    b"EHLO x\r\n",
    b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n",
    b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nBDAT 9000000\r\n"
    + b"x" * 4000,
    b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n" + b"HELP\r\n" * 10_000,
]
"""What each of them has said by then; the last one reads none of its replies."""

CLIENTS = """
import socket, sys, time
clients = []
for phase in eval(sys.stdin.readline()):
    for _ in range(20):
        client = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
        client.setblocking(False)
        try:
            client.send(phase)
        except BlockingIOError:
            pass
        clients.append(client)
print("ready", flush=True)
sys.stdin.read()
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def other_host() -> Iterator[tuple[str, str, str]]:
    """A network namespace behind a pair of devices: its name, our device, our address."""
    tag = secrets.token_hex(3)
    name, ours, theirs = f"fastsmtp-{tag}", f"fso{tag}", f"fst{tag}"
    network = f"10.{200 + os.getpid() % 50}.{secrets.randbelow(250)}"
    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no network namespace can be made here (iproute2, as root)")
    try:
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        ip("addr", "add", f"{network}.1/24", "dev", ours)
        ip("link", "set", ours, "up")
        ip("-n", name, "addr", "add", f"{network}.2/24", "dev", theirs)
        ip("-n", name, "link", "set", theirs, "up")
        yield name, ours, f"{network}.1"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", ours)
        ip("netns", "del", name)


def connections(daemon: Daemon) -> int:
    """Sockets of the worker that are connected to somebody."""
    (worker,) = daemon.workers
    found = subprocess.run(
        ["ss", "-Htnp", "state", "established", "state", "fin-wait-1", "state", "close-wait"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return sum(f"pid={worker}," in line for line in found.splitlines())


def test_clients_whose_host_vanishes_are_ended_in_time(start_daemon, other_host):
    name, ours, address = other_host
    daemon = start_daemon(smtp_ip=f"{address}; 127.0.0.1", smtp_port=lasting_port(), smtp_timeout=2)
    before = connections(daemon)
    clients = subprocess.Popen(
        ["ip", "netns", "exec", name, sys.executable, "-c", CLIENTS, address, str(daemon.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert clients.stdin is not None
    assert clients.stdout is not None
    clients.stdin.write(repr(PHASES).encode() + b"\n")
    clients.stdin.flush()
    try:
        assert clients.stdout.readline() == b"ready\n"
        ip("link", "set", ours, "down")
        began = time.monotonic()
        assert connections(daemon) > before
        until(lambda: connections(daemon) == before, 30)
        # smtp-timeout, two sweeps, and LINGER for the last reply that nobody reads
        assert time.monotonic() - began < 2 + 2 + 5 + 6
        with Wire(daemon.port) as other:
            other.ehlo()
            assert other.mail(b"Hi\r\n").code == 250
    finally:
        clients.kill()
        clients.communicate()
