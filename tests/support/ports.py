"""Ports for what is stopped and started again on the same one."""

import random
import socket
from pathlib import Path


def lasting_port() -> int:
    """A free port of 127.0.0.1 that the kernel gives to nobody while it is free again.

    It lies below those that connections, and programs that ask for port 0, get.
    """
    below = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, max(below, 20_000))
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
